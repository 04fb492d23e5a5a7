"""A shell that lives on and cannot be hung."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection

from tests.agent.running import Answer, Client


class Shell:
    def __init__(self, client: Client, id: str) -> None:
        self.client, self.path = client, f"/sessions/{id}"

    def run(self, command: str, **options: Any) -> Answer:
        return self.client.post(f"{self.path}/commands", {"command": command, **options})

    def begin(self, command: str, **options: Any) -> str:
        """An asynchronous command; its path."""
        return f"{self.path}/commands/{self.run(command, wait=False, **options).json['id']}"

    def finished(self, command: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        shown: dict[str, Any] = {"exit_code": None}
        while shown["exit_code"] is None:
            assert time.monotonic() < deadline, shown
            shown = self.client.get(command).json
        return shown


@pytest.fixture
def shell(client: Client, request: pytest.FixtureRequest) -> Iterator[Shell]:
    id = f"s{abs(hash(request.node.nodeid))}"
    assert client.post("/sessions", {"id": id}).status == 201
    yield Shell(client, id)
    client.delete(f"/sessions/{id}")


def test_state_persists(shell: Shell) -> None:
    shell.run("cd /tmp; x='a b'; export Y=y; f() { echo f$1; }; shopt -s nullglob; false")

    done = shell.run('echo $? "$x" $Y $PWD $(f 1) /none*').json

    assert done["stdout"] == "1 a b y /tmp f1\n"


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("cat <<EOF\nhere\nEOF", 0, "here\n"),
        ("cat", 0, ""),
        ("read x; echo got$x", 0, "got\n"),
        ("return 5", 5, ""),
        ("break; continue; echo on", 0, "on\n"),
        ("sleep 30 &", 0, ""),
        ("(sleep 30; echo late) & echo now", 0, "now\n"),
        ("exec 3>&- 4>&-; exec >/dev/null; echo lost", 0, ""),
        ("trap 'true' EXIT; echo x", 0, "x\n"),
        ("kill -9 $BASHPID & wait $!; echo $?", 0, "137\n"),
        ("set -- a b; printf '%s\n' \"$@\"", 0, "a\nb\n"),
        ("# only a comment", 0, ""),
        ("echo 'a\\n'  \\\n  b", 0, "a\\n b\n"),
        ("printf() { :; }; unset -f printf; printf x", 0, "x"),
        ("set -v; set -x; echo q; set +vx", 0, "q\n"),
    ],
)
def test_odd_commands_end_and_leave_the_shell_alive(shell: Shell, command: str, code: int, output: str) -> None:
    done = shell.run(command).json

    assert (done["exit_code"], done["stdout"]) == (code, output)
    assert shell.run("echo alive").json["stdout"] == "alive\n"


@pytest.mark.parametrize(
    "command", ["echo 'open", 'echo "open', "echo $(", "if true; then", "cat <<EOF && (", "}", ")", "for"]
)
def test_what_is_unfinished_is_a_syntax_error(shell: Shell, command: str) -> None:
    done = shell.run(command).json

    assert done["exit_code"] == 2
    assert "command: " in done["stderr"]
    assert shell.run("echo alive").json["stdout"] == "alive\n"


@pytest.mark.parametrize(
    ("command", "code"), [("exit 5", 5), ("exec sh -c 'exit 6'", 6), ("set -e; false", 1), ("kill -9 $$", 137)]
)
def test_a_shell_that_ends_is_gone(shell: Shell, command: str, code: int) -> None:
    done = shell.run(f"echo last; {command}").json

    assert (done["exit_code"], done["stdout"]) == (code, "last\n")
    assert shell.run("echo more").status == 410


def test_commands_wait_for_each_other(shell: Shell) -> None:
    first = shell.begin("sleep 0.2; echo 1; x=set")
    second = shell.begin("echo 2 $x")

    assert shell.finished(second)["started_at_ms"] >= shell.finished(first)["ended_at_ms"]
    assert shell.client.get(f"{second}/output").json["stdout"] == "2 set\n"


def test_a_command_is_fed_and_told_that_there_is_no_more(shell: Shell) -> None:
    command = shell.begin("read line; echo first=$line; cat")

    shell.client.post(f"{command}/input", {"data": "one\ntwo\n"})
    assert shell.client.post(f"{command}/input", {"data": "three", "end": True}).status == 204

    assert shell.finished(command)["exit_code"] == 0
    assert shell.client.get(f"{command}/output").json["stdout"] == "first=one\ntwo\nthree"
    assert shell.client.post(f"{command}/input", {"data": "late"}).status == 409


def test_much_input_waits_for_its_reader(shell: Shell) -> None:
    command = shell.begin("sleep 0.1; wc -c")

    shell.client.post(f"{command}/input", {"data": "x" * 3_000_000, "end": True})

    shell.finished(command)
    assert shell.client.get(f"{command}/output").json["stdout"].strip() == "3000000"


def test_marked_output_tells_the_streams_apart(shell: Shell) -> None:
    done = shell.run("echo out; sleep 0.05; echo err >&2").json

    raw = shell.client.get(f"{shell.path}/commands/{done['id']}/output", marked="true").body

    assert raw == b"\1\1\1out\n\2\2\2err\n"


def _bytes(link: ClientConnection) -> list[bytes]:
    """The frames up to the end."""
    return [frame for frame in link if isinstance(frame, bytes)]


def test_followers_see_everything_from_the_beginning(shell: Shell) -> None:
    command = shell.begin(
        "for i in 1 2 3; do echo o$i; echo e$i >&2; sleep 0.05; done; head -c 3000000 /dev/zero; echo end"
    )
    with shell.client.socket(f"{command}/follow") as one, shell.client.socket(f"{command}/follow?offset=3") as two:
        frames, later = _bytes(one), b"".join(frame[1:] for frame in _bytes(two))

    whole = b"".join(frame[1:] for frame in frames)
    assert whole.startswith((b"o1\ne1\n", b"e1\no1\n"))
    assert len(whole) == 18 + 3_000_000 + 4
    assert later == whole[3:]
    assert {frame[0] for frame in frames} == {1, 2}
    assert one.close_code == 1000


def test_a_kill_ends_the_command_and_not_the_session(shell: Shell) -> None:
    command = shell.begin("sleep 100")
    while not shell.client.exec(["pgrep", "-fx", "sleep 100"]).json["stdout"]:
        pass

    assert shell.client.post(f"{command}/kill").status == 204

    assert shell.finished(command)["exit_code"] == 137
    assert shell.run("echo alive").json["stdout"] == "alive\n"


def test_a_timeout_ends_a_command_and_tells_what_it_said(shell: Shell) -> None:
    done = shell.run("echo early; sleep 100", timeout_seconds=0.3)

    assert (done.status, done.json["error"], done.json["stdout"]) == (408, "timeout", "early\n")
    assert shell.run("echo alive").json["stdout"] == "alive\n"


def test_a_timeout_ends_even_a_loop_of_the_shell(shell: Shell) -> None:
    assert shell.run("while :; do :; done", timeout_seconds=0.2).status == 408
    assert shell.run("echo alive").status == 410


def test_deleting_a_session_kills_daemons_too(client: Client) -> None:
    client.post("/sessions", {"id": "daemons"})
    shell = Shell(client, "daemons")
    pids = shell.run("sleep 1000 & echo $!; (setsid sh -c 'echo $$; exec sleep 1000' &)").json["stdout"].split()

    assert client.delete("/sessions/daemons").status == 204

    alive = client.exec(["ps", "-o", "pid=", *[word for pid in pids for word in ("-p", pid)]]).json["stdout"]
    assert alive == ""


def test_a_command_that_removes_our_folder_ends(shell: Shell) -> None:
    done = shell.run('rm -rf "$(dirname "$0")"; echo removed').json

    assert done["exit_code"] == 137
    assert shell.run("true").status == 410


def test_output_over_the_limit_is_dropped_with_a_marker(shell: Shell) -> None:
    done = shell.run("head -c 70000000 /dev/zero; echo unseen", timeout_seconds=60).json

    assert done["truncated"]
    assert "is not kept" in done["stdout"]
    assert done["exit_code"] == 0


def test_ids_are_unique_and_unknown_ones_404(client: Client, shell: Shell) -> None:
    assert client.post("/sessions", {"id": shell.path.rpartition("/")[2]}).status == 409
    assert shell.run("true", command_id="mine").json["id"] == "mine"
    assert shell.run("true", command_id="mine").status == 409
    assert client.get("/sessions/none").status == 404
    assert client.get(f"{shell.path}/commands/none").status == 404
    assert client.get(f"{shell.path}").json["commands"] == [{"id": "mine", "command": "true", "exit_code": 0}]


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=words)
def test_any_quoted_text_is_said_as_it_is(shell: Shell, word: str) -> None:
    quoted = "'" + word.replace("'", "'\\''") + "'"

    done = shell.run(f"printf %s {quoted}").json

    assert (done["exit_code"], done["stdout"]) == (0, word)


FRAGMENTS = [
    "'",
    '"',
    "`",
    "$(",
    ")",
    "{",
    "}",
    "<<E\n",
    "E\n",
    "\n",
    " ",
    ";",
    "&",
    "|",
    "echo",
    "x",
    "\\",
    "#",
    "if",
    "fi",
    "((",
    "[[",
]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=12)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=fragments)
def test_no_fragment_of_a_script_hangs_the_session(shell: Shell, parts: list[str]) -> None:
    command = "".join(parts)

    done = shell.run(f":\n{command}", timeout_seconds=5)
    alive = shell.run("echo alive")

    assert (done.status, alive.json.get("stdout")) == (200, "alive\n"), (done.body, alive.body)
