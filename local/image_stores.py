"""Where container engines keep images: Podman's storage in the cache, which every data folder shares, or Docker's own."""

import os
import subprocess
from pathlib import Path
from typing import Protocol

import docker
from docker.errors import NotFound

from local import home as homes
from local import layers, podman
from local.commands import Commands
from local.errors import SetupError
from local.layers import Image

LOAD_SECONDS = 600


class ImageStore(Protocol):
    """Keeps images for an engine."""

    def has(self, reference: str) -> bool: ...

    def add(self, image: Image, bench: Path, run: Commands) -> None:
        """Import it, using that folder for what is only needed meanwhile."""


class PodmanStore:
    """A storage that holds images and never containers. The Podman of a data folder reads it beside its own, so an
    image is imported once and never copied."""

    def __init__(self, cache: Path) -> None:
        self._home = homes.at(cache / "podman")

    @property
    def folder(self) -> Path:
        """What storage.conf calls an additional image store."""
        return self._home.containers / "storage"

    def has(self, reference: str) -> bool:
        if not self.folder.exists():
            return False
        return not subprocess.run(["podman", "image", "exists", reference], env=self._environment()).returncode

    def add(self, image: Image, bench: Path, run: Commands) -> None:
        layers.write_layout(image, bench / "layout")
        # What it copies on the way goes to our disk: /var/tmp may be small.
        environment = {**self._environment(), "TMPDIR": str(bench)}
        # Podman makes a name of the folder's path, which must fit one; only the last step makes the image count as there.
        for step in (["pull", "--quiet", "oci:layout"], ["untag", image.id], ["tag", image.id, image.reference]):
            run(["podman", *step], environment, bench)

    def _environment(self) -> dict[str, str]:
        self._home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {**os.environ, **podman.configure(self._home, [])}


class DockerStore:
    """Docker's own images."""

    def __init__(self, url: str) -> None:
        self._api = docker.APIClient(base_url=url, version="1.40", timeout=LOAD_SECONDS)

    def has(self, reference: str) -> bool:
        try:
            self._api.inspect_image(reference)
        except NotFound:
            return False
        return True

    def add(self, image: Image, bench: Path, run: Commands) -> None:
        for said in self._api.load_image(layers.archive(image)):
            if "error" in said:
                raise SetupError(f"Docker did not take the image {image.reference}: {said['error']}")
