"""The stand-in for AWS as one process of ours: `python -m local.cloud`, told by its environment what to use.

Loopback only, nothing that the template does not use, and no file outside the home's folders.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from local import home as homes
from local import stage
from local.engine import Engine
from local.home import Home
from local.machines import connect

if TYPE_CHECKING:
    from local.workers import Nursery

HOST = "127.0.0.1"


def environment(home: Home, port: int) -> dict[str, str]:
    """What the stand-in reads as it is imported. Lambda's workers inherit all of it."""
    nowhere = str(home.run / "no-docker.sock")
    return {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(home.scratch),
        "S3_DATA_DIR": str(home.scratch / "s3"),
        "STATE_DIR": str(home.scratch / "state"),
        # It sweeps containers from whatever Docker it finds, and that may be the user's own.
        "DOCKER_HOST": f"unix://{nowhere}",
        "LOG_LEVEL": "WARNING",
        "SANDBAR_DATA": str(home.data),
    }


def main() -> None:
    """Serve until SIGTERM."""
    home = homes.at(Path(os.environ["SANDBAR_DATA"]))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    engine = connect(home, os.environ["SANDBAR_ENGINE"], os.environ["SANDBAR_ENGINE_URL"])
    nursery = _install(home, engine)
    asyncio.run(_serve(int(os.environ["GATEWAY_PORT"])))
    nursery.close()
    engine.close()


def _install(home: Home, engine: Engine) -> "Nursery":
    from local import ecs, patches, stores, workers

    patches.apply()
    stores.install(
        stores.Stores(tables_url=os.environ["AWS_ENDPOINT_URL_DYNAMODB"], objects_url=os.environ["AWS_ENDPOINT_URL_S3"])
    )
    stage.withdraw(home)
    ecs.install(engine, lambda: stage.await_published(home))
    return workers.install(home.data / "layers")


async def _serve(port: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"{HOST}:{port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await serve(app, config, shutdown_trigger=stopped.wait)


if __name__ == "__main__":
    main()
