"""The HTTP protocol of a connection: uvicorn's, and the requests that become a stream of bytes instead of a reply."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

State = ServerState


def factory(application: Any) -> Callable[[], asyncio.Protocol]:
    """Makes a protocol for each accepted connection."""
    config = Config(
        application, http=HttpToolsProtocol, ws=_websocket, lifespan="off", log_config=None, interface="asgi3",  # type: ignore[arg-type]
        access_log=False, proxy_headers=False, timeout_keep_alive=75, ws_per_message_deflate=False, ws_max_size=16 * 1024 * 1024,
    )  # fmt: skip
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    state = ServerState()
    return lambda: HttpToolsProtocol(config, state, {})


def _websocket(**given: Any) -> asyncio.Protocol:
    """WebSockets are imported when the first caller asks for one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)
