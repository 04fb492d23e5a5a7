"""Rows 1 to 5: a sandbox that is created, warm, many at once and cold; one that is stopped and started with its files."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.exec import floor
from benchmarks.measuring import OURS, Times, Verdict, interleaved, tell, timed
from benchmarks.stand import ROOT, Client, Stand
from tests.contract.environments import python_with

SDK = "0.226.1"
SEQUENCE, COLD, RESTARTS, AT_ONCE, BURSTS = 50, 8, 4, 20, 3
REFILL = 1.5  # between two rounds, for the pool to have its machines again
UNPOOLED = {"cpu": 2, "memory": 4}  # a size that no pool keeps
CHANGES = "import os\nfor n in range(5000): open(f'changed/{n}', 'wb').write(os.urandom(10000) + bytes(10000))"
"""100 MB in 5,000 files, half of which cannot be compressed."""

BARE = "floor: two requests and a subprocess"
ENGINE = "podman run, podman exec"


def measure(stand: Stand) -> None:
    """All rows."""
    with peers.engine() as engine, sdk(stand) as first_exec:
        _warm(stand, engine, first_exec)
        _at_once(stand, engine, first_exec)
        cold = _cold(stand, engine)
        _again(stand, cold)


def _warm(stand: Stand, engine: peers.Engine, first_exec: Callable[[int], list[float]]) -> None:
    client = stand.client()
    contestants = {OURS: lambda: _rested(first_exec), BARE: lambda: _bare(client), ENGINE: lambda: _ran(engine)}
    times = interleaved(contestants, SEQUENCE)
    tell(
        1,
        f"warm create to first exec, daytona {SDK}",
        times,
        [
            Verdict("p50 at most 60 ms", times[OURS].p50, 0.060),
            Verdict("p99 at most 150 ms", times[OURS].p99, 0.150),
            Verdict("p50 at most a third of podman", times[OURS].p50, times[ENGINE].p50 / 3),
        ],
    )


def _at_once(stand: Stand, engine: peers.Engine, first_exec: Callable[[int], list[float]]) -> None:
    client, ours, bare, ran = stand.client(), list[float](), list[float](), list[float]()
    for _ in range(BURSTS):
        ours += first_exec(AT_ONCE)
        time.sleep(REFILL * 4)
        bare.append(sum(timed(lambda: _bare(client)) for _ in range(AT_ONCE)))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ran += pool.map(lambda _: _ran(engine), range(AT_ONCE))
    named = {OURS: ours, f"{BARE}, {AT_ONCE} times": bare, f"{ENGINE}, {AT_ONCE} at once": ran}
    times = {name: Times(tuple(sorted(each))) for name, each in named.items()}
    verdicts = [Verdict("p95 at most 500 ms", times[OURS].quantile(0.95), 0.500)]
    tell(2, f"the same, {AT_ONCE} at once", times, verdicts)


def _cold(stand: Stand, engine: peers.Engine) -> Times:
    client = stand.client()
    times = interleaved({OURS: lambda: _created(client), ENGINE: lambda: _ran(engine)}, COLD, warm=1)
    verdicts = [Verdict("p50 at most twice podman", times[OURS].p50, 2 * times[ENGINE].p50)]
    tell(3, "cold create to first exec", times, verdicts)
    return times[OURS]


def _again(stand: Stand, cold: Times) -> None:
    client, started, stopped, packed, unpacked = (
        stand.client(),
        list[float](),
        list[float](),
        list[float](),
        list[float](),
    )
    with stand.sandbox(**UNPOOLED) as id, tempfile.TemporaryDirectory(prefix="sandbar-tree-") as folder:
        tree = Path(folder)
        (tree / "changed").mkdir()
        subprocess.run(["python3", "-c", CHANGES], cwd=tree, check=True)
        for _ in range(RESTARTS):
            client.exec(id, f'mkdir -p changed && python3 -c "{CHANGES}"')
            stopped.append(timed(lambda: _moved(client, id, "stop", "stopped")))
            packed.append(timed(lambda: _shell("tar c changed | zstd -q -o packed.zst -f", tree)))
            started.append(timed(lambda: _moved(client, id, "start", "started", then="true")))
            unpacked.append(timed(lambda: _shell("mkdir -p into && zstd -q -d -c packed.zst | tar x -C into", tree)))
    times = {OURS: Times(tuple(sorted(started))), "floor: zstd -d | tar x": Times(tuple(sorted(unpacked)))}
    limit = cold.p50 + 1.5 * times["floor: zstd -d | tar x"].p50
    tell(
        4,
        "start from stopped, 100 MB in 5,000 files, to first exec",
        times,
        [Verdict("p50 at most row 3 + 1.5 floors", times[OURS].p50, limit)],
    )
    times = {OURS: Times(tuple(sorted(stopped))), "floor: tar c | zstd": Times(tuple(sorted(packed)))}
    limit = 2 * times["floor: tar c | zstd"].p50 + 0.5
    verdicts = [Verdict("p50 at most two floors + 0.5 s", times[OURS].p50, limit)]
    tell(5, "stop with the same changes", times, verdicts)


def _rested(first_exec: Callable[[int], list[float]]) -> float:
    took = first_exec(1)[0]
    time.sleep(REFILL)
    return took


def _bare(client: Client) -> None:
    for _ in range(2):
        client.ask("GET", "/config")
    floor()


def _ran(engine: peers.Engine) -> float:
    began = time.perf_counter()
    id = engine.start()
    engine("exec", id, "true")
    took = time.perf_counter() - began
    engine.remove(id)
    return took


def _created(client: Client) -> float:
    began = time.perf_counter()
    id = client.ask("POST", "/sandbox", UNPOOLED)["id"]
    client.await_state(id, "started")
    client.exec(id, "true")
    took = time.perf_counter() - began
    client.ask("DELETE", f"/sandbox/{id}")
    return took


def _moved(client: Client, id: str, verb: str, state: str, *, then: str = "") -> None:
    client.ask("POST", f"/sandbox/{id}/{verb}")
    client.await_state(id, state)
    if then:
        client.exec(id, then)


def _shell(command: str, folder: Path) -> None:
    subprocess.run(["bash", "-c", command], cwd=folder, check=True)


@contextmanager
def sdk(stand: Stand) -> Iterator[Callable[[int], list[float]]]:
    """The official SDK in a process of its own: asked for so many sandboxes at once, it tells what each took to its first
    command, and deletes them. What fails takes for ever."""
    python = python_with(ROOT / f"tests/contract/daytona/requirements-{SDK}.txt")
    told = {**os.environ, "DAYTONA_API_URL": f"{stand.url}/daytona", "DAYTONA_API_KEY": stand.key}
    process = subprocess.Popen(
        [python, "-c", CLIENT], env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    asked, answers = process.stdin, process.stdout

    def first_exec(many: int) -> list[float]:
        print(many, file=asked, flush=True)
        return [float(each) for each in answers.readline().split()]

    try:
        yield first_exec
    finally:
        process.stdin.close()
        process.wait(timeout=60)


CLIENT = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from daytona import Daytona
daytona, made = Daytona(), []
def one(_):
    began = time.perf_counter()
    try:
        sandbox = daytona.create()
        made.append(sandbox)
        assert sandbox.process.exec("true").exit_code == 0
    except Exception as problem:
        print(problem, file=sys.stderr)
        return float("inf")
    return time.perf_counter() - began
def gone(sandbox):
    try:
        sandbox.delete()
    except Exception as problem:
        print(problem, file=sys.stderr)
for line in sys.stdin:
    with ThreadPoolExecutor(int(line)) as pool:
        took = list(pool.map(one, range(int(line))))
        list(pool.map(gone, made))
    made.clear()
    print(*took, flush=True)
"""
