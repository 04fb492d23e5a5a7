"""Lambda's workers as forks of one process (local/zygote.py) where the stand-in starts a new interpreter for each."""

import contextlib
import hashlib
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local import zygote
from local.children import LIFELINE

LAYERS = "_LAMBDA_LAYERS_DIRS"


def install(layers: Path) -> "Nursery":
    """Have functions with layers forked, and each layer unpacked once, into that folder, and not for every worker."""
    nursery = Nursery()
    unpacked = _Layers(layers)
    spawn = lambda_runtime.Worker._spawn

    def spawn_with_shared_layers(worker: Any) -> None:
        config = worker.config
        folders = [str(unpacked.folder(zipped)) for ref in config.get("Layers") or () if (zipped := _zip(ref))]
        variables = {**(config.get("Environment") or {}).get("Variables", {}), LAYERS: os.pathsep.join(folders)}
        worker.config = {**config, "Layers": [], "Environment": {"Variables": variables}}
        try:
            spawn(worker)
        finally:
            worker.config = config

    lambda_runtime.Worker._spawn = spawn_with_shared_layers
    lambda_runtime.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": nursery.popen})
    return nursery


class Nursery:
    """Starts workers. The process that forks them is started by one thread that lives as long as we do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: str | None = None
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def popen(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str, **kwargs: Any) -> Any:
        """What `subprocess.Popen` would give: a fork for a Python worker with layers, else a new process."""
        layers = env.get(LAYERS)
        if not layers or command[0] != sys.executable:
            return subprocess.Popen(command, env=env, cwd=cwd, **kwargs)
        with self._lock:
            return self._fork(layers, {"environment": dict(env), "folder": cwd, "script": command[1]})

    def close(self) -> None:
        """End the process that forks; workers end when they are asked no more."""
        if self._zygote and self._socket:
            self._socket.close()
            self._zygote.kill()
            self._zygote.wait()

    def _fork(self, layers: str, told: Mapping[str, Any]) -> "Forked":
        if layers != self._layers or self._zygote is None or self._zygote.poll() is not None:
            self._begin(layers)
        assert self._socket
        theirs, ours = zip(*(_pipe(to_child=number == 0) for number in range(3)), strict=True)
        try:
            socket.send_fds(self._socket, [json.dumps(told).encode()], list(theirs))
            pid = int(self._socket.recv(32))
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return Forked(pid, *ours)

    def _begin(self, layers: str) -> None:
        """A new process to fork from, with these layers imported."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        python = [sys.executable, "-I", "-S", zygote.__file__, str(number), *layers.split(os.pathsep)]
        started = threading.Event()

        def start_and_stay() -> None:
            # The kernel ends the child with the very thread that started it, so this thread waits for the child's end.
            self._zygote = subprocess.Popen([*LIFELINE, *python], pass_fds=[number], stdin=subprocess.DEVNULL)
            started.set()
            self._zygote.wait()

        threading.Thread(target=start_and_stay, name="zygote", daemon=True).start()
        started.wait()
        theirs.close()
        self._socket, self._layers = ours, layers


class Forked:
    """A worker that is not our child: as much of `subprocess.Popen` as is used of one."""

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.stdin = os.fdopen(stdin, "w", buffering=1)
        self.stdout = os.fdopen(stdout)
        self.stderr = os.fdopen(stderr)
        # None where it has ended already.
        self._handle: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return 0 if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return 0

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def _ended(self, timeout: float | None) -> bool:
        if self._handle is None:
            return True
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        if not waiting.poll(None if timeout is None else timeout * 1000):
            return False
        os.close(self._handle)
        self._handle = None
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        return True


class _Layers:
    """Layers unpacked by their contents, for as long as the folder is there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def folder(self, zipped: bytes) -> Path:
        target = self._root / hashlib.sha256(zipped).hexdigest()[:16]
        with self._lock:
            if not target.exists():
                shutil.rmtree(self._root, ignore_errors=True)
                beside = target.with_suffix(".new")
                with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
                    archive.extractall(beside)
                beside.rename(target)
        return target


def _zip(reference: Any) -> bytes | None:
    zipped: bytes | None = lambda_svc._resolve_layer_zip(reference)
    return zipped


def _pipe(*, to_child: bool) -> tuple[int, int]:
    """The child's end and ours."""
    read, write = os.pipe()
    return (read, write) if to_child else (write, read)
