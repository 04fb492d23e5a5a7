"""A control plane in miniature, deployed to the real stack: stores, engine, stand-in and door, without the edge."""

import http.client
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local import deploy, images, install, podman, stack, stage
from local import home as homes
from local.children import Child
from local.engines import EngineChoice
from local.home import Home
from local.image_stores import PodmanStore
from local.steps import halt

SOURCES = Path(__file__).parent / "stack"


@dataclass(frozen=True)
class Small:
    """The stack and its one API."""

    home: Home
    ports: stack.Ports
    choice: EngineChoice
    cloud: Child
    image: str

    def deploy(self) -> str:
        """Deploy; the API's URL."""
        code = self.home.scratch / "code.zip"
        with zipfile.ZipFile(code, "w") as archive:
            archive.write(SOURCES / "handler.py", "handler.py")
        package = deploy.Package(SOURCES / "template.yaml", {"code.zip": code})
        parameters = {"CodeBucket": deploy.PACKAGES, "CodeKey": "code.zip", "Image": self.image}
        outputs = deploy.deploy(self.ports.cloud_url, "small", package, parameters)
        url = stack.stage_url(self.ports.cloud_url, outputs["ApiUrl"])
        stage.publish(self.home, url)
        return url

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers; None where there is nothing."""
        place = urlsplit(stage.url(self.home))
        connection = http.client.HTTPConnection(place.netloc, timeout=30)
        try:
            connection.request(method, place.path + path, json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def running(data: Path) -> Iterator[Small]:
    """The stack of that data folder; afterwards nothing of it is left running."""
    home = homes.at(data)
    homes.prepare(home)
    ports, cache = stack.pick_ports(), images.default_cache()
    store = PodmanStore(cache)
    image = images.ensure_default_image(store, cache, print)
    choice = EngineChoice("podman", podman.url(home), (store.folder,))
    told = stack.environment(home, ports)
    os.environ.update({name: value for name, value in told.items() if name.startswith("AWS_")})
    cloud = stack.control(home, ports, choice, told)
    parts = [*stack.stores(home, ports, install.dynoxide(), told), *stack.engine(home, choice, told), cloud]
    try:
        for part in parts:
            part.start()
            part.await_ready()
        yield Small(home, ports, choice, cloud, image)
    finally:
        cloud.end()
        halt(home, choice)
        for part in reversed(parts):
            part.end()
        podman.tidy(home)
        shutil.rmtree(data)
