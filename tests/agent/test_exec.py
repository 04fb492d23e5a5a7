"""Commands that run to their end."""

import base64
import time
from pathlib import Path

import pytest

from tests.agent.running import Agent, Client


def test_streams_are_apart_and_in_order(client: Client) -> None:
    done = client.exec("echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; exit 7").json

    assert (done["exit_code"], done["truncated"]) == (7, False)
    assert (done["stdout"], done["stderr"], done["output"]) == ("one\nthree\n", "two\n", "one\ntwo\nthree\n")


def test_a_list_is_executed_as_it_is(client: Client) -> None:
    assert client.exec(["printf", "%s|", "a b", "$HOME", "*"]).json["stdout"] == "a b|$HOME|*|"


@pytest.mark.parametrize(
    ("command", "code"), [(["/no/such"], 127), ("no-such-program", 127), (["/etc"], 126), ("kill -9 $$", 137)]
)
def test_what_cannot_run_has_a_shells_exit_code(client: Client, command: str | list[str], code: int) -> None:
    done = client.exec(command)

    assert (done.status, done.json["exit_code"]) == (200, code)


def test_environment_and_input_reach_the_command(client: Client, agent: Agent) -> None:
    done = client.exec("echo $GREETING $EXTRA $HOME $LANG; cat", env={"EXTRA": "x y"}, stdin="a\x00ü\n" * 50_000).json

    assert done["stdout"] == f"hello x y {agent.home} C.UTF-8\n" + "a\x00ü\n" * 50_000


def test_our_own_variables_do_not(client: Client) -> None:
    assert "SANDBAR_" not in client.exec("env").json["stdout"]


def test_the_environment_can_be_changed(client: Client) -> None:
    client.ask("PATCH", "/env", {"set": {"LATER": "1"}, "unset": ["LANG"]})
    first = client.exec("echo $LATER-$LANG").json["stdout"]
    client.ask("PATCH", "/env", {"set": {"LANG": "C.UTF-8"}, "unset": ["LATER"]})

    assert first == "1-\n"
    assert client.exec("echo $LATER-$LANG").json["stdout"] == "-C.UTF-8\n"


def test_a_timeout_kills_the_whole_group_and_keeps_what_was_said(client: Client) -> None:
    began = time.monotonic()
    done = client.exec("echo early; sleep 100 & sleep 100", timeout_seconds=0.3)

    assert (done.status, done.json["error"], done.json["stdout"]) == (408, "timeout", "early\n")
    assert time.monotonic() - began < 3


def test_a_background_child_does_not_hang_it(client: Client) -> None:
    began = time.monotonic()
    done = client.exec("sleep 5 & echo done")

    assert done.json["stdout"] == "done\n"
    assert time.monotonic() - began < 2


def test_much_output_is_cut_in_the_middle(client: Client) -> None:
    done = client.exec("printf begin; head -c 30000000 /dev/zero | tr '\\0' x; printf end").json

    assert done["truncated"]
    assert done["stdout"].startswith("beginxxx")
    assert done["stdout"].endswith("xxxend")
    assert f"\n... [{30_000_008 - 2 * 5 * 1024 * 1024} bytes cut] ...\n" in done["stdout"]


def test_bytes_that_are_not_utf8_are_replaced(client: Client) -> None:
    assert client.exec("printf 'a\\377b'").json["stdout"] == "a\ufffdb"


def test_a_caller_who_leaves_takes_the_command_along(client: Client, agent: Agent, home: Path) -> None:
    leaving = agent.client()
    leaving.link.request("POST", "/exec", f'{{"command": "echo $$ > {home}/pid; sleep 100"}}', leaving.headers)
    deadline = time.monotonic() + 10
    while not (home / "pid").exists() or not (home / "pid").read_text():
        assert time.monotonic() < deadline
    pid = (home / "pid").read_text().strip()

    leaving.close()

    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline


def test_orphans_leave_no_zombies(client: Client, agent: Agent) -> None:
    client.exec("(sleep 0.05 &) ; (sleep 0.05 &)")

    done = client.exec(f"sleep 0.4; ps -o stat= --ppid {agent.process.pid} | grep -c Z").json

    assert done["stdout"] == "0\n"


def test_a_command_wrapped_as_old_clients_do(client: Client) -> None:
    inner = base64.b64encode(b'echo "$K|$(pwd)" && exit 3').decode()
    wrapped = f"sh -c \"export K=$(echo 'Vg==' | base64 -d); echo '{inner}' | base64 -d | sh\""

    done = client.exec(wrapped, cwd="/").json

    assert (done["exit_code"], done["stdout"].startswith("V|")) == (3, True)


def test_the_machine_describes_itself(client: Client, agent: Agent) -> None:
    info = client.get("/info").json

    assert (info["home"], info["work_dir"]) == (str(agent.home), str(agent.home))
    assert info["memory_total_bytes"] >= info["memory_available_bytes"] > 0
    assert info["disk_total_bytes"] >= info["disk_free_bytes"] > 0
