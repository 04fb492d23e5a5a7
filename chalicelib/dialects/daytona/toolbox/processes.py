"""Single commands and pieces of code."""

from typing import Any

from chalicelib.dialect import Body, Needed, Relay, Route, Shape, list_of, number, one_of, some_text, text, texts

LONGEST_TIMEOUT = 24 * 60 * 60


def seconds(value: Any) -> float | None:
    """A timeout; 0 is none, as absent is."""
    return number(0, LONGEST_TIMEOUT)(value) or None


EXECUTE: Body = {
    "command": Needed("command", some_text),
    "cwd": ("cwd", text),
    "envs": ("env", texts),
    "timeout": ("timeout_seconds", seconds),
}

CODE: Body = {
    "code": Needed("code", text),
    "language": Needed("language", one_of("python", "javascript", "typescript")),
    "argv": ("argv", list_of(text)),
    "envs": ("env", texts),
    "timeout": ("timeout_seconds", seconds),
}

RESULT: Shape = {"exitCode": "exit_code", "result": "output"}

ROWS = (
    Route("POST", "/process/execute", Relay("POST", "/exec"), RESULT, EXECUTE),
    Route("POST", "/process/code-run", Relay("POST", "/code"), {**RESULT, "artifacts": "artifacts"}, CODE),
)
