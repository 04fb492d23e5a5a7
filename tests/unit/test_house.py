"""The house's rules that a test can hold: who imports whom, how long things are, that every state has its workflow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "chalicelib.core": {"chalicelib.core"},
    "chalicelib.dialect": {"chalicelib.core"},
    "chalicelib.dialects": {"chalicelib.core", "chalicelib.dialect", "chalicelib.dialects"},
    "chalicelib.gateway": {"chalicelib.core", "chalicelib.dialect", "chalicelib.dialects"},
    "chalicelib.agent_api": {"chalicelib.core", "chalicelib.dialect"},
    "chalicelib.tasks": {"chalicelib.core"},
    "chalicelib.events": {"chalicelib.core"},
    "chalicelib.journal": set(),
    "chalicelib.frames": set(),
    "chalicelib.aws": {"chalicelib.core", "chalicelib.aws"},
    "chalicelib.wiring": {"chalicelib.core", "chalicelib.aws"},
    "agent": {"agent", "chalicelib.frames"},
    "edge": {"edge", "chalicelib.gateway", "chalicelib.wiring", "chalicelib.dialect", "chalicelib.core"},
}
"""Each room, the longest name first counting, and the rooms of ours that it may enter."""

OURS = ("chalicelib", "agent", "edge", "local", "infra", "app", "console", "tests")
LONGEST_MODULE = 300


def modules(*folders: str) -> list[Path]:
    """Our Python files under these folders."""
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts
    )


def dotted(path: Path) -> str:
    """A file's name as a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str | None:
    """The room that a module lies in."""
    fitting = [name for name in MAY_IMPORT if module == name or module.startswith(name + ".")]
    return max(fitting, key=len, default=None)


def imports(path: Path) -> set[str]:
    """All that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules("chalicelib", "agent", "edge"), ids=dotted)
def test_a_module_enters_only_the_rooms_it_may(path: Path) -> None:
    home = room(dotted(path))
    if home is None:
        assert dotted(path) in ("chalicelib", "chalicelib.dialects"), f"{path} is in no room of the house"
        return

    ours = {name for name in imports(path) if name.split(".")[0] in OURS}
    strangers = {n for n in ours if not any(n == a or n.startswith(a + ".") for a in MAY_IMPORT[home] | {home})}

    assert not strangers


@pytest.mark.parametrize("path", modules("chalicelib/dialects"), ids=dotted)
def test_a_dialect_imports_no_other(path: Path) -> None:
    mine = dotted(path).split(".")[2:3]
    others = {n.split(".")[2] for n in imports(path) if n.startswith("chalicelib.dialects.")} - set(mine)

    assert not others


@pytest.mark.parametrize("path", modules("chalicelib/core"), ids=dotted)
def test_the_core_needs_only_the_standard_library(path: Path) -> None:
    import sys

    foreign = {n for n in imports(path) if n.split(".")[0] not in sys.stdlib_module_names | {"chalicelib"}}

    assert not foreign


@pytest.mark.parametrize("path", modules("chalicelib/core", "chalicelib/dialects", "edge", "agent"), ids=dotted)
def test_only_the_joining_places_read_the_environment(path: Path) -> None:
    if dotted(path) in ("agent.boot", "agent.__main__", "agent.settings", "edge.__main__", "edge.settings"):
        return

    assert "os.environ" not in path.read_text()


@pytest.mark.parametrize("path", modules("chalicelib", "agent", "edge", "local", "infra"), ids=dotted)
def test_a_module_can_be_held_in_mind(path: Path) -> None:
    allowance = 450 if dotted(path) == "chalicelib.dialect" else LONGEST_MODULE

    assert len(path.read_text().splitlines()) <= allowance


def test_nobody_imports_local() -> None:
    guilty = [
        p for p in modules("chalicelib", "agent", "edge", "infra") if any(n.startswith("local") for n in imports(p))
    ]

    assert not guilty


def test_no_test_replaces_what_it_should_be_given() -> None:
    banned = "mock" + ".patch"

    assert not [p for p in modules("tests") if banned in p.read_text()]


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    from chalicelib.core.states import diagram

    assert diagram() in (ROOT / "docs" / "ARCHITECTURE.md").read_text()
