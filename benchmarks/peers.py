"""Who else does such work on this machine: the container engine, ssh and sftp, a Jupyter kernel."""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.stand import free_port
from local import engines, podman, steps
from local import home as homes

CACHE = Path(os.environ.get("SANDBAR_CACHE") or Path.home() / ".cache/sandbar") / "benchmarks"
JUPYTER = ("ipykernel==7.1.0", "jupyter_client==8.6.3")


def run(*command: str, **options: object) -> str:
    """What a program writes; its own words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-1000:]}")
    return str(done.stdout)


class Engine:
    """Podman with a storage of its own that reads the same images."""

    def __init__(self, folder: Path) -> None:
        home = homes.at(folder)
        homes.prepare(home)
        choice = engines.choose(home, "podman")
        self.image = steps.image(choice)
        self._told = {**os.environ, **podman.configure(home, choice.image_stores)}
        self._home = home

    def __call__(self, *arguments: str) -> str:
        """Run podman."""
        return run("podman", *arguments, env=self._told).strip()

    def start(self) -> str:
        """A container that waits; its id."""
        return self("run", "--detach", "--entrypoint", "sleep", self.image, "infinity")

    def remove(self, id: str) -> None:
        """It is gone."""
        self("rm", "--force", "--time", "0", id)

    def close(self) -> None:
        """Nothing is left of it."""
        self("rm", "--force", "--all", "--time", "0")
        shutil.rmtree(self._home.run, ignore_errors=True)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine until this ends."""
    folder = Path(tempfile.mkdtemp(prefix="sandbar-peer-"))
    podman_ = Engine(folder)
    try:
        yield podman_
    finally:
        podman_.close()
        shutil.rmtree(folder, ignore_errors=True)


class Ssh:
    """An ssh server on loopback and one connection to it that all commands share."""

    def __init__(self, folder: Path) -> None:
        if not Path("/usr/sbin/sshd").exists():
            run("apt-get", "install", "-q", "-y", "openssh-server")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        port = str(free_port())
        for key in ("host", "mine"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        settings = {"ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host", "PidFile": folder / "pid"}
        settings |= {"AuthorizedKeysFile": folder / "mine.pub", "StrictModes": "no", "UsePAM": "no"}
        settings |= {"PermitRootLogin": "yes", "Subsystem": "sftp internal-sftp"}
        settings |= {
            "SetEnv": f"HOME={folder}"
        }  # what the user's own shell does at its start is not ssh's to answer for
        (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL
        )
        self.options = [
            "-F",
            "none",
            "-i",
            str(folder / "mine"),
            "-o",
            f"Port={port}",
            "-o",
            f"ControlPath={folder}/link",
        ]
        self.options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        self.options += ["-o", "ConnectionAttempts=20"]
        run("ssh", *self.options, "-o", "ControlMaster=yes", "-o", "ControlPersist=600", "127.0.0.1", "true")

    def __call__(self, command: str) -> str:
        """Run a command."""
        return run("ssh", *self.options, "127.0.0.1", command)

    def sftp(self, *commands: str) -> None:
        """Run commands of sftp."""
        run("sftp", *self.options, "-b", "-", "127.0.0.1", input="\n".join(commands))

    def close(self) -> None:
        """Nothing is left of it."""
        subprocess.run(["ssh", *self.options, "-O", "exit", "127.0.0.1"], capture_output=True)
        self._server.terminate()
        self._server.wait()


@contextmanager
def ssh() -> Iterator[Ssh]:
    """An ssh server until this ends."""
    with tempfile.TemporaryDirectory(prefix="sandbar-ssh-") as folder:
        server = Ssh(Path(folder))
        try:
            yield server
        finally:
            server.close()


class Jupyter:
    """A Jupyter kernel, asked over ZeroMQ by a process that is told what to execute over a pipe."""

    def __init__(self) -> None:
        python = environment("jupyter", JUPYTER)
        self._asker = subprocess.Popen(
            [python, "-c", KERNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._told()

    def __call__(self, code: str) -> None:
        """Execute a line."""
        assert self._asker.stdin
        print(code, file=self._asker.stdin, flush=True)
        self._told()

    def close(self) -> None:
        """Nothing is left of it."""
        assert self._asker.stdin
        self._asker.stdin.close()
        self._asker.wait(timeout=20)

    def _told(self) -> None:
        assert self._asker.stdout
        if self._asker.stdout.readline().strip() != "done":
            raise RuntimeError("the Jupyter kernel does not answer")


KERNEL = """
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
print("done", flush=True)
for line in sys.stdin:
    client.execute_interactive(line, output_hook=lambda message: None)
    print("done", flush=True)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


def environment(name: str, requirements: Sequence[str]) -> str:
    """The Python of a virtual environment that has these, made when it is first asked for."""
    folder = CACHE / name
    made = folder / "made-of"
    if not made.exists() or made.read_text() != "\n".join(requirements):
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {' '.join(requirements)}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *requirements)
        made.write_text("\n".join(requirements))
    return str(folder / "bin/python")
