"""Sessions: shells that live on, their commands, and what those wrote, followed live or read later."""

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.core.errors import Unsupported
from chalicelib.dialect import (
    Body,
    Call,
    Close,
    Frame,
    Needed,
    Pick,
    Relay,
    Route,
    Shape,
    Socket,
    boolean,
    each,
    some_text,
    text,
)
from chalicelib.dialects.daytona.clients import takes_json_logs, upgrades
from chalicelib.dialects.daytona.fields import flag

COMMAND: Shape = {"id": "id", "command": "command", "exitCode": "exit_code"}
SESSION: Shape = {"sessionId": "id", "commands": lambda session, call: each(COMMAND)(session["commands"], call)}
LOGS: Shape = {"output": "output", "stdout": "stdout", "stderr": "stderr"}
RAN: Shape = {"cmdId": "id", "exitCode": "exit_code", **LOGS}

NEW: Body = {"sessionId": Needed("id", some_text)}
INPUT: Body = {"data": Needed("data", text)}
FOLLOW: Body = {"follow": ("follow", flag)}


def at_once(value: Any) -> bool:
    """Not to wait for the command, said the other way round."""
    return not boolean(value)


RUN: Body = {
    "command": Needed("command", some_text),
    "runAsync": ("wait", at_once),
    "async": ("wait", at_once),
    "suppressInputEcho": ("", boolean),  # set aside: what is fed to a command is never written into its log
}

OF_SESSION = "/sessions/{session}"
OF_COMMAND = "/sessions/{session}/commands/{command}"

MARKS = {1: b"\x01\x01\x01", 2: b"\x02\x02\x02"}
"""What leads each chunk of stdout and of stderr."""


class Followed:
    """The log of a command as it grows: the agent's one-byte mark becomes Daytona's three."""

    def opened(self) -> Sequence[Frame]:
        """Nothing is said before the first output."""
        return ()

    def from_agent(self, frame: str | bytes) -> Sequence[Frame]:
        """A chunk of output; an empty one says nothing."""
        raw = frame.encode() if isinstance(frame, str) else frame
        return (MARKS[raw[0]] + raw[1:],) if len(raw) > 1 else ()

    def from_client(self, frame: str | bytes) -> Sequence[Frame]:
        """A follower only listens."""
        return ()

    def agent_closed(self, code: int, reason: str) -> Close:
        """The end of the log is the end of the WebSocket."""
        return Close(code, reason)


def logs(call: Call) -> Relay | Socket:
    """Followed over a WebSocket; else all that there is, in this generation's form."""
    if upgrades(call.request):
        return Socket(OF_COMMAND + "/follow", lambda _: Followed())
    if call.query.get("follow"):
        raise Unsupported("logs are followed over a WebSocket: open one at this address")
    if takes_json_logs(call.request):
        return Relay("GET", OF_COMMAND + "/output")
    return Relay("GET", OF_COMMAND + "/output?marked=true", receive="stream")


def _ran(told: Mapping[str, Any], _: Call) -> int:
    """A command that was not waited for is accepted, not done."""
    return 200 if "exit_code" in told else 202


ROWS = (
    Route("POST", "/process/session", Relay("POST", "/sessions", receive="nothing"), body=NEW, status=201),
    Route(
        "GET",
        "/process/session",
        Relay("GET", "/sessions"),
        lambda found, call: each(SESSION)(found["sessions"], call),
    ),
    Route("GET", "/process/session/{session}", Relay("GET", OF_SESSION), SESSION),
    Route("DELETE", "/process/session/{session}", Relay("DELETE", OF_SESSION, receive="nothing"), status=204),
    Route("POST", "/process/session/{session}/exec", Relay("POST", OF_SESSION + "/commands"), RAN, RUN, status=_ran),
    Route("GET", "/process/session/{session}/command/{command}", Relay("GET", OF_COMMAND), COMMAND),
    Route("GET", "/process/session/{session}/command/{command}/logs", Pick(logs), LOGS, query=FOLLOW),
    Route(
        "POST",
        "/process/session/{session}/command/{command}/input",
        Relay("POST", OF_COMMAND + "/input", receive="nothing"),
        body=INPUT,
        status=204,
    ),
)
