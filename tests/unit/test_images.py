"""The default image: built of what its recipe says, once, by whoever comes first, and from then on shared."""

import errno
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local import images, layers, recipes
from local.commands import Commands
from local.errors import SetupError
from local.layers import Image

ROOT = Path(__file__).parents[2]
# What names depend on, and the code that makes them.
PARTS = ("agent", "chalicelib", "infra/images", "local", "requirements-agent.txt")
TELL = "from local import recipes as r; print(r.root_name(), r.runtime_name(), r.manifest_name(), r.agent_name())"


class Store:
    """Keeps images in memory."""

    def __init__(self, problem: OSError | None = None) -> None:
        self.images: dict[str, Image] = {}
        self.benches: list[Path] = []
        self.may_add = threading.Event()
        self.may_add.set()
        self.adding = threading.Event()
        self._problem = problem

    def has(self, reference: str) -> bool:
        return reference in self.images

    def add(self, image: Image, bench: Path, run: Commands) -> None:
        if self._problem:
            raise self._problem
        self.benches.append(bench)
        self.adding.set()
        assert self.may_add.wait(20)
        self.images[image.reference] = image


@pytest.fixture(name="cache")
def a_cache_with_all_layers(tmp_path: Path) -> Path:
    """As after a first build: what each layer holds is its name."""
    for name in _names(ROOT):
        folder = tmp_path / "images" / "layers" / name
        folder.mkdir(parents=True)
        layers.keep([name.encode()], folder)
    return tmp_path


def _nobody_listens(message: str) -> None: ...


def test_the_default_image_is_its_layers_with_the_agent_on_top(cache: Path) -> None:
    store = Store()

    reference = images.ensure_default_image(store, cache, _nobody_listens)

    image = store.images[reference]
    assert reference == images.default_reference()
    assert re.fullmatch(r"localhost/sandbar/default:[0-9a-f]{12}", reference)
    assert [layer.blob.parent.name for layer in image.layers] == _names(ROOT)
    assert image.config["Entrypoint"] == ["/opt/sandbar/bin/agent"]


def test_the_agent_alone_is_an_image_too(cache: Path) -> None:
    store = Store()

    reference = images.ensure_agent_image(store, cache, _nobody_listens)

    _, runtime, _, agent = _names(ROOT)
    assert [layer.blob.parent.name for layer in store.images[reference].layers] == [runtime, agent]


def test_an_image_that_is_there_is_not_made_again(cache: Path) -> None:
    store, said = Store(), list[str]()
    images.ensure_default_image(store, cache, _nobody_listens)

    images.ensure_default_image(store, cache, said.append)

    assert said == []
    assert len(store.benches) == 1


def test_what_a_killed_set_up_left_is_thrown_away_before_and_after(cache: Path) -> None:
    left = cache / "images" / "bench" / "root-0123456789ab" / "layer.tar.zst"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")

    images.ensure_default_image(Store(), cache, _nobody_listens)

    assert not (cache / "images" / "bench").exists()
    assert sorted(path.name for path in (cache / "images" / "layers").iterdir()) == sorted(_names(ROOT))


def test_two_set_ups_at_once_import_one_image(cache: Path) -> None:
    store, said = Store(), list[str]()
    store.may_add.clear()

    def listen(message: str) -> None:
        said.append(message)
        store.may_add.set()

    first = threading.Thread(target=images.ensure_default_image, args=(store, cache, _nobody_listens))
    first.start()
    assert store.adding.wait(20)
    images.ensure_default_image(store, cache, listen)
    first.join()

    assert said == ["Waiting for another set-up that is building an image"]
    assert len(store.benches) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(cache: Path, number: int) -> None:
    store = Store(OSError(number, "full"))

    with pytest.raises(SetupError, match=f"^No room is left under {re.escape(str(cache))}; make some"):
        images.ensure_default_image(store, cache, _nobody_listens)


def test_what_is_built_already_needs_no_tools(cache: Path) -> None:
    assert images.missing(cache) == []


def test_the_same_code_elsewhere_has_the_same_names(tmp_path: Path) -> None:
    assert _names(_clone(tmp_path)) == _names(ROOT)


@pytest.mark.parametrize(
    ("changed", "renamed"),
    [
        ("agent/web.py", ["agent"]),
        ("agent/checkpoint/changes.py", ["manifest", "agent"]),
        ("requirements-agent.txt", ["runtime", "manifest", "agent"]),
        ("infra/images/agent/assemble.py", ["runtime", "manifest", "agent"]),
        ("infra/images/default/apt.txt", ["root", "runtime", "manifest", "agent"]),
        ("infra/images/default/setup.sh", ["root", "runtime", "manifest", "agent"]),
    ],
)
def test_a_change_renames_the_layers_that_are_built_from_it(tmp_path: Path, changed: str, renamed: list[str]) -> None:
    clone = _clone(tmp_path)
    before = _names(clone)
    with (clone / changed).open("a") as file:
        file.write("# changed\n")

    assert [old.partition("-")[0] for old in before if old not in _names(clone)] == renamed


def _clone(folder: Path) -> Path:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignore) if source.is_dir() else shutil.copy(source, target)
    return folder


def _names(code: Path) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", TELL], cwd=code, check=True, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.parametrize("name", ["default/pip.txt", "default/node.txt", "agent/tools.txt"])
def test_every_python_package_is_pinned(name: str) -> None:
    lines = [line for line in (recipes.IMAGES / name).read_text().split("\n") if line and not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_npm_package_is_pinned_and_none_is_tied_to_a_registry() -> None:
    wanted = json.loads((recipes.DEFAULT / "package.json").read_text())["dependencies"]
    lock = json.loads((recipes.DEFAULT / "package-lock.json").read_text())["packages"]

    assert all(lock[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert all("integrity" in package and "resolved" not in package for name, package in lock.items() if name)


def test_both_builders_configure_the_image_alike() -> None:
    text = (recipes.IMAGES / "Dockerfile.default").read_text().replace("\\\n", "")

    environment = re.findall(r"\b([A-Z_]+=\S+)", next(re.finditer("^ENV (.*)", text, re.MULTILINE))[1])
    assert environment == images.CONFIG["Env"]
    assert f"ENTRYPOINT {json.dumps(images.CONFIG['Entrypoint'])}" in text
    assert [f"EXPOSE {port.removesuffix('/tcp')}" in text for port in images.CONFIG["ExposedPorts"]] == [True]
