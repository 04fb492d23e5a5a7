"""Layers and the images made of them: named by their content, and read by Docker and Podman alike."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from local import layers
from local.layers import Image, Layer


def _layer(folder: Path, content: bytes = b"hello") -> Layer:
    tree = folder / "tree"
    tree.mkdir(parents=True)
    (tree / "greeting").write_bytes(content)
    return layers.keep([layers.packed(tree)], folder)


def _image(folder: Path) -> Image:
    return Image("localhost/a/b:c", [_layer(folder / "low"), _layer(folder / "high", b"bye")], {"Env": ["A=1"]})


def test_a_layer_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    chunks = [b"a" * 70_000, b"", b"b" * 3]

    kept = layers.keep(chunks, tmp_path)

    with kept.opened() as stream:
        assert stream.read() == b"".join(chunks)
    assert kept == layers.kept(tmp_path)
    assert kept.diff_id == f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"
    assert kept.digest == f"sha256:{hashlib.sha256(kept.blob.read_bytes()).hexdigest()}"
    assert (kept.size, kept.diff_size) == (kept.blob.stat().st_size, 70_003)


@pytest.mark.parametrize(("mode", "packed"), [(0o644, 0o644), (0o600, 0o644), (0o755, 0o755), (0o700, 0o755)])
def test_the_same_files_make_the_same_layer_whoever_made_them_when(tmp_path: Path, mode: int, packed: int) -> None:
    first, second = _layer(tmp_path / "first"), tmp_path / "second"
    (second / "tree").mkdir(parents=True)
    file = second / "tree" / "greeting"
    file.write_bytes(b"hello")
    file.chmod(mode)
    os.utime(file, (1, 1))

    stream = layers.packed(second / "tree")

    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        (entry,) = tar.getmembers()
    assert (entry.uid, entry.gid, entry.mtime, entry.mode) == (0, 0, layers.EPOCH, packed)
    assert (hashlib.sha256(stream).hexdigest() == first.diff_id.removeprefix("sha256:")) == (packed == 0o644)


def test_an_oci_layout_names_every_blob_by_its_content(tmp_path: Path) -> None:
    image, layout = _image(tmp_path), tmp_path / "layout"

    layers.write_layout(image, layout)

    blobs = {file.name: file.read_bytes() for file in (layout / "blobs" / "sha256").iterdir()}
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs.items())
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    assert [row["digest"] for row in manifest["layers"]] == [layer.digest for layer in image.layers]
    assert manifest["config"]["digest"] == f"sha256:{image.id}"
    config = json.loads(blobs[image.id])
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert config["config"] == {"Env": ["A=1"]}


def test_docker_gets_the_layers_unpacked_and_in_order(tmp_path: Path) -> None:
    image = _image(tmp_path)

    stream = io.BytesIO(b"".join(layers.archive(image)))

    with tarfile.open(fileobj=stream) as tar:
        members = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(members["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/a/b:c"]
    digests = [f"sha256:{hashlib.sha256(members[name]).hexdigest()}" for name in manifest["Layers"]]
    assert digests == [layer.diff_id for layer in image.layers]
    assert members[manifest["Config"]] == image.configuration()
