"""Lambda's workers as forks: what they see, how they end, and that each is one of its own."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import workers
from local.workers import Forked, Nursery

# Answers each line that it is asked with a line, as the stand-in's own worker does.
SCRIPT = """
import json, os, sys
import library
for line in sys.stdin:
    asked = json.loads(line)
    library.calls += 1
    print(json.dumps({"pid": os.getpid(), "folder": os.getcwd(), "calls": library.calls, "known": os.environ.get("KNOWN"),
                      "site": "site" in sys.modules, "path": sys.path}), flush=True)
    print("a log line", file=sys.stderr, flush=True)
"""


@pytest.fixture(name="layer")
def a_layer(tmp_path: Path) -> Path:
    layer = tmp_path / "layer"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "library.py").write_text("calls = 0\n")
    return layer


@pytest.fixture(name="nursery")
def a_nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def test_a_worker_answers_in_its_own_folder_and_environment(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    worker = _worker(nursery, layer, tmp_path)

    answer = _ask(worker)

    assert (answer["folder"], answer["known"], answer["pid"]) == (str(tmp_path), "yes", worker.pid)
    assert worker.stderr.readline() == "a log line\n"
    _end(worker)


def test_a_worker_sees_the_layer_and_nothing_of_this_environment(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    worker = _worker(nursery, layer, tmp_path)

    answer = _ask(worker)

    assert not answer["site"]
    assert not any("site-packages" in folder for folder in answer["path"])
    _end(worker)


def test_workers_share_nothing(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    one, other = _worker(nursery, layer, tmp_path), _worker(nursery, layer, tmp_path)

    _ask(one)

    assert (_ask(one)["calls"], _ask(other)["calls"]) == (2, 1)
    _end(one)
    _end(other)


def test_a_worker_ends_when_it_is_asked_no_more(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    worker = _worker(nursery, layer, tmp_path)
    assert worker.poll() is None

    worker.stdin.close()

    assert worker.wait(timeout=5) == 0
    assert worker.poll() == 0


def test_a_worker_that_does_not_end_is_said_not_to(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    worker = _worker(nursery, layer, tmp_path)

    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=0.05)
    _end(worker)


def test_workers_are_forked_anew_after_their_parent_was_killed(nursery: Nursery, layer: Path, tmp_path: Path) -> None:
    _end(_worker(nursery, layer, tmp_path))
    nursery.close()

    worker = _worker(nursery, layer, tmp_path)

    assert _ask(worker)["calls"] == 1
    _end(worker)


def test_a_function_without_layers_gets_a_process_of_its_own(nursery: Nursery, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('mine')"]

    with nursery.popen(command, env={}, cwd=str(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.read() == "mine\n"

    assert isinstance(process, subprocess.Popen)


def test_a_layer_is_unpacked_once_and_an_older_one_is_dropped(tmp_path: Path) -> None:
    layers = workers._Layers(tmp_path / "layers")

    first = layers.folder(_zipped("one"))
    again = layers.folder(_zipped("one"))
    second = layers.folder(_zipped("two"))

    assert first == again
    assert (second / "python" / "library.py").read_text() == "two"
    assert not first.exists()


def _worker(nursery: Nursery, layer: Path, folder: Path) -> Forked:
    script = folder / "worker.py"
    script.write_text(SCRIPT)
    environment = {"KNOWN": "yes", workers.LAYERS: str(layer), "PATH": os.environ["PATH"]}
    worker: Forked = nursery.popen([sys.executable, str(script)], env=environment, cwd=str(folder))
    return worker


def _ask(worker: Forked) -> dict[str, Any]:
    worker.stdin.write("{}\n")
    answer: dict[str, Any] = json.loads(worker.stdout.readline())
    return answer


def _end(worker: Forked) -> None:
    worker.kill()
    worker.wait(timeout=5)


def _zipped(text: str) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("python/library.py", text)
        return file.getvalue()
