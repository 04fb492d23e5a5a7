"""The manifest told from layers is the one that the agent would tell from the machine."""

import os
import tarfile
from pathlib import Path

from agent import manifest
from local import image_manifest, layers

WHOLE_SECOND = 1_600_000_000


def _odd_tree(tree: Path) -> None:
    (tree / "etc" / "empty folder").mkdir(parents=True)
    (tree / "etc" / "name\nwith \\ and \udce9").write_text("x")
    (tree / "etc" / "tool").write_bytes(b"12345")
    (tree / "etc" / "tool").chmod(0o4755)
    (tree / "etc" / "link").symlink_to("tool")
    (tree / "etc" / "dangling-é").symlink_to("/no/such/plâce")
    os.link(tree / "etc" / "tool", tree / "etc" / "zz-same-tool")
    os.mkfifo(tree / "etc" / "queue", 0o640)
    for apart in ("proc/1", "opt/sandbar/bin", "dev"):
        (tree / apart).mkdir(parents=True)
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (WHOLE_SECOND, WHOLE_SECOND), follow_symlinks=False)


def test_layers_and_machine_tell_the_same(tmp_path: Path) -> None:
    tree, stream = tmp_path / "tree", tmp_path / "tree.tar"
    tree.mkdir()
    _odd_tree(tree)
    with tarfile.open(stream, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tree, ".")

    told = list(image_manifest.lines([layers.keep([stream.read_bytes()], tmp_path)]))

    assert sorted(told) == sorted(manifest.lines(str(tree)))
    assert len(told) == 10  # the root, etc and the seven in it, opt


def test_an_upper_layer_has_the_last_word(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for folder, content in ((lower, b"a"), (upper, b"bcd")):
        (folder / "tree").mkdir(parents=True)
        (folder / "tree" / "file").write_bytes(content)

    told = image_manifest.lines([layers.keep([layers.packed(it / "tree")], it) for it in (lower, upper)])

    assert list(told) == [f'["f",420,0,0,3,{layers.EPOCH},"file"]']
