"""Layers: tar streams, kept compressed beside what is to be known of them, and the image that they make up together."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

# Of every file that we make, so that the same content has the same digest wherever and whenever it is built.
EPOCH = 1704067200
CHUNK = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass(frozen=True)
class Layer:
    """A tar stream at rest: `digest` and `size` of the compressed blob, `diff_id` and `diff_size` of the tar itself."""

    blob: Path
    digest: str
    size: int
    diff_id: str
    diff_size: int

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The tar stream."""
        with self.blob.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            yield stream


@dataclass(frozen=True)
class Image:
    """What to call it, what it consists of, lowest layer first, and how it runs: the `config` of an OCI image."""

    reference: str
    layers: Sequence[Layer]
    config: dict[str, Any]

    @property
    def id(self) -> str:
        return hashlib.sha256(self.configuration()).hexdigest()

    def configuration(self) -> bytes:
        made = {"created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": self.config}
        diff_ids = [layer.diff_id for layer in self.layers]
        return json.dumps({**made, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()


def keep(chunks: Iterable[bytes], folder: Path) -> Layer:
    """Write the tar stream into this folder as a layer."""
    blob, taken, diff_size = folder / "layer.tar.zst", hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=3, threads=-1)
    with blob.open("wb") as out, compressor.stream_writer(out, closefd=False) as writer:
        for chunk in chunks:
            taken.update(chunk)
            diff_size += len(chunk)
            writer.write(chunk)
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = {"digest": digest, "size": blob.stat().st_size, "diff_id": taken.hexdigest(), "diff_size": diff_size}
    known |= {name: f"sha256:{known[name]}" for name in ("digest", "diff_id")}
    (folder / "layer.json").write_text(json.dumps(known))
    return kept(folder)


def kept(folder: Path) -> Layer:
    """The layer that lies in this folder."""
    return Layer(blob=folder / "layer.tar.zst", **json.loads((folder / "layer.json").read_text()))


def packed(tree: Path) -> bytes:
    """The folder as a tar of root's files, the same bytes for the same contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            tar.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain)
    return stream.getvalue()


def write_layout(image: Image, folder: Path) -> None:
    """Make the folder an OCI layout that holds the image. Its blobs are links to the layers, which are not copied."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in image.layers:
        os.link(layer.blob, blobs / layer.digest.removeprefix("sha256:"))
    layers = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in image.layers]
    config = {"mediaType": CONFIG, **_blob(blobs, image.configuration())}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    entry = {"mediaType": MANIFEST, **_blob(blobs, json.dumps(manifest).encode())}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def archive(image: Image) -> Iterator[bytes]:
    """The image as the tar stream that `docker load` of any age reads: layers uncompressed."""
    config = image.configuration()
    names = [f"{layer.diff_id.removeprefix('sha256:')}.tar" for layer in image.layers]
    manifest = [{"Config": "config.json", "RepoTags": [image.reference], "Layers": names}]
    for name, layer in zip(names, image.layers, strict=True):
        with layer.opened() as stream:
            yield from _member(name, layer.diff_size, iter(partial(stream.read, CHUNK), b""))
    for name, content in (("config.json", config), ("manifest.json", json.dumps(manifest).encode())):
        yield from _member(name, len(content), [content])
    yield bytes(2 * tarfile.BLOCKSIZE)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = EPOCH
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _blob(blobs: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = size
    yield entry.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-size % tarfile.BLOCKSIZE)
