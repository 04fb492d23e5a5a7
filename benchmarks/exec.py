"""Rows 6 and 7: a command, a command of a session, a piece of code."""

import subprocess
from contextlib import ExitStack

from benchmarks import peers
from benchmarks.measuring import OURS, Verdict, interleaved, tell
from benchmarks.stand import Client, Stand

ROUNDS = 100
FLOOR = "floor: subprocess.run(['true'])"


def measure(stand: Stand) -> None:
    """Both rows."""
    with ExitStack() as stack:
        id = stack.enter_context(stand.sandbox())
        client = stand.client()
        _command(stack, client, id)
        _session_and_code(stack, client, id)


def _command(stack: ExitStack, client: Client, id: str) -> None:
    engine, ssh = stack.enter_context(peers.engine()), stack.enter_context(peers.ssh())
    container = engine.start()
    times = interleaved(
        {
            OURS: lambda: ignoring(client.exec(id, "true")),
            FLOOR: floor,
            "ssh, multiplexed": lambda: ignoring(ssh("true")),
            "podman exec": lambda: ignoring(engine("exec", container, "true")),
        },
        ROUNDS,
    )
    ours = times[OURS].p50
    tell(
        6,
        "exec true over a kept connection",
        times,
        [
            Verdict("p50 at most the floor + 3 ms", ours, times[FLOOR].p50 + 0.003),
            Verdict("p50 below ssh", ours, times["ssh, multiplexed"].p50),
            Verdict("p50 below podman", ours, times["podman exec"].p50),
        ],
    )


def _session_and_code(stack: ExitStack, client: Client, id: str) -> None:
    kernel = peers.Jupyter()
    stack.callback(kernel.close)
    toolbox = f"/toolbox/{id}/toolbox/process"
    client.ask("POST", f"{toolbox}/session", {"sessionId": "bench"})
    session, code = "sandbar, command of a session", "sandbar, code_run"
    times = interleaved(
        {
            session: lambda: ignoring(client.ask("POST", f"{toolbox}/session/bench/exec", {"command": "echo 1"})),
            code: lambda: ignoring(
                client.ask("POST", f"{toolbox}/code-run", {"code": "print(1)", "language": "python"})
            ),
            FLOOR: floor,
            "jupyter kernel, execute": lambda: kernel("print(1)"),
        },
        ROUNDS,
    )
    limit = times["jupyter kernel, execute"].p50
    told = {OURS if name == session else name: each for name, each in times.items()}
    verdicts = [Verdict(f"{name}: p50 below the kernel", times[name].p50, limit) for name in (session, code)]
    tell(7, "command of a session (sandbar), and code_run", told, verdicts)


def floor() -> None:
    """What nobody can be faster than."""
    subprocess.run(["true"], check=True)


def ignoring(_: object) -> None:
    """What it said does not count, only that it did."""
