"""The default image and the folder /opt/sandbar, in real containers of the Podman that sandboxes run on."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from local import home as homes
from local import images, podman
from local.containers import DROPPED_CAPABILITIES, SYSCTLS
from local.image_stores import PodmanStore

Run = Callable[..., str]


@dataclass(frozen=True)
class Built:
    """What this machine has for the code as it was when the tests began."""

    store: PodmanStore
    default: str
    agent: str


PYTHON = ["/opt/sandbar/bin/python", "-ISBXutf8"]
# Prints every file that the process has mapped, where it looks for modules, and what its children would inherit.
LOOK = """
import json, os, ssl, sys, ctypes, zstandard, uvicorn, httptools, websockets.speedups, agent.server
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
print(json.dumps({"mapped": sorted(mapped), "path": sys.path, "self": os.readlink("/proc/self/exe"),
                  "encoding": sys.getfilesystemencoding(), "environment": dict(os.environ)}))
"""
READ = (
    "import zstandard; print(zstandard.decompress(open('/opt/sandbar/image.manifest', 'rb').read()).decode().strip())"
)
DEBIAN = "http://deb.debian.org/debian\nhttp://deb.debian.org/debian-security"
# Podman itself makes or mounts these in every container.
THE_ENGINE_S = {"", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "run", "run/.containerenv"}


@pytest.fixture(name="built", scope="module")
def the_images() -> Built:
    """In the cache that this machine's data folders share; built now if it has none yet."""
    cache = images.default_cache()
    store = PodmanStore(cache)
    default = images.ensure_default_image(store, cache, print)
    return Built(store, default, images.ensure_agent_image(store, cache, print))


@pytest.fixture(name="run", scope="module")
def a_podman(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a command in a new container of the image; what it wrote to its output."""
    home = homes.at(tmp_path_factory.mktemp("data"))
    homes.prepare(home)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **podman.configure(home, [built.store.folder])}

    def run(image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        place = ["--rm", "--pull=never", "--network=none", f"--entrypoint={command[0]}", *options, image]
        program = ["podman", "run", *place, *command[1:]]
        return subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()

    yield run
    shutil.rmtree(home.run)


@pytest.fixture(name="shell", scope="module")
def a_users_shell(run: Run, built: Built) -> Callable[[str], str]:
    """Run a script as the sandbox's user, in their home."""
    place = ("--user=daytona", "--workdir=/home/daytona")
    return lambda script: run(built.default, "bash", "-c", script, options=place).strip()


def test_the_user_has_a_home_and_may_become_root(shell: Callable[[str], str]) -> None:
    told = shell('id -un; id -u; echo "$HOME"; touch ~/x && stat -c %U ~/x; sudo id -u; getent passwd daytona')

    assert told.split("\n")[:5] == ["daytona", "1000", "/home/daytona", "daytona", "0"]
    assert told.strip().endswith(":/home/daytona:/bin/bash")


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("python -c 'import sys; print(sys.version_info[:2])'", "(3, 11)"),
        ("python3 -c 'import numpy, pandas, requests; print(pandas.Series([1, 2]).sum())'", "3"),
        ("python -c 'import matplotlib.pyplot as p; p.plot([1, 2]); p.savefig(\"a.png\")'; head -c 4 a.png | cut -c 2-", "PNG"),
        ("pip install --no-index --dry-run numpy | cut -d ' ' -f 1-3", "Requirement already satisfied:"),
        ("python -m venv v && v/bin/python -c 'print(1)'", "1"),
        ("node -p 'process.versions.node.split(`.`)[0]'", "24"),
        ("npm --version >/dev/null && npm root -g", "/usr/local/lib/node_modules"),
        ("echo 'const n: number = process.argv.length; console.log(n)' >a.ts; npx ts-node a.ts", "2"),
        ("echo 'import * as p from \"path\"; console.log(p.basename(\"a/b\"))' >a.ts; npx ts-node a.ts", "b"),
        ("node -p 'require(\"typescript\").version'", "5.9.3"),
        ("pylsp --help | head -1 | cut -d ' ' -f 1-2; typescript-language-server --version", "usage: pylsp\n5.3.0"),
        ("locale charmap; echo $LANG", "UTF-8\nC.UTF-8"),
        ("git init -q g && git -C g status --short && echo ok", "ok"),
        ("for it in curl ssh ps ip less nano unzip zip xz zstd tar rsync; do command -v $it >/dev/null || echo $it; done", ""),
        ("cut -d ' ' -f 2 /etc/apt/sources.list | sort -u; ls /etc/apt/sources.list.d", DEBIAN),
        ("touch /usr/local/bin/mine /usr/local/lib/node_modules/mine && echo ok", "ok"),
    ],
)  # fmt: skip
def test_the_image_holds_what_a_sandbox_is_expected_to_hold(
    shell: Callable[[str], str], script: str, answer: str
) -> None:
    assert shell(script) == answer


def test_the_user_may_ping_and_nobody_sends_raw_packets(run: Run, built: Built) -> None:
    as_started = [f"--cap-drop={name}" for name in DROPPED_CAPABILITIES]
    as_started += [f"--sysctl={name}={value}" for name, value in SYSCTLS.items()]
    raw = "import socket\ntry: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nexcept PermissionError: print('no')"

    told = run(built.default, "ping", "-c", "1", "127.0.0.1", options=("--user=daytona", *as_started))

    assert "1 received" in told
    assert run(built.default, "python3", "-c", raw, options=tuple(as_started)).strip() == "no"


@pytest.mark.parametrize("image", ["default", "agent"])
def test_the_agents_python_takes_nothing_of_the_image(run: Run, built: Built, image: str) -> None:
    misleading = ("LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu", "PYTHONHOME=/nowhere", "PYTHONPATH=/tmp", "LC_ALL=C")
    told = json.loads(
        run(getattr(built, image), *PYTHON, "-c", LOOK, options=tuple(f"--env={it}" for it in misleading))
    )

    given = set(told["environment"]) - {"HOME", "HOSTNAME", "TERM", "container"}
    assert given == {it.partition("=")[0] for it in misleading + tuple(images.CONFIG["Env"])}
    assert [path for path in told["mapped"] + told["path"] if not path.startswith("/opt/sandbar/")] == []
    assert told["self"] == "/opt/sandbar/bin/python"
    assert told["encoding"] == "utf-8"


def test_the_agent_refuses_to_run_without_its_environment(run: Run, built: Built) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        run(built.default, "/opt/sandbar/bin/agent")

    assert refusal.value.returncode == 78


def test_the_manifest_says_what_a_new_sandbox_holds(run: Run, built: Built) -> None:
    kept = run(built.default, *PYTHON, "-c", READ)
    seen = run(built.default, *PYTHON, "-c", "from agent.manifest import lines; print(*lines('/'), sep='\\n')")

    differing = set(kept.strip().split("\n")) ^ set(seen.strip().split("\n"))
    assert {json.loads(line)[6] for line in differing} <= THE_ENGINE_S
    assert len(kept.split("\n")) > 10_000
