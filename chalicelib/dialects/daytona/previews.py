"""Where a sandbox's toolbox is reached, which each generation asks in its own way."""

from collections.abc import Mapping

from chalicelib.core import lifecycle, tokens
from chalicelib.core.errors import Unsupported
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World
from chalicelib.dialect import Call, Route, Shape, whole
from chalicelib.dialects.daytona.fields import slot
from chalicelib.dialects.daytona.shapes import toolbox_url

TOOLBOX_PORT = 2280
"""The port that the older SDKs take the toolbox's WebSockets to be previewed at."""

PREVIEW: Shape = {"sandboxId": "sandbox", "url": "url", "token": "token"}


def preview(world: World, call: Call) -> Mapping[str, str]:
    """The address of a port and the token that opens it."""
    port = slot(call, "port", whole(1, 65535))
    sandbox = lifecycle.get(world, call.owner, call.params["sandbox"])
    if port != TOOLBOX_PORT:
        raise Unsupported(f"previews of ports are not offered yet, only of the toolbox's, {TOOLBOX_PORT}")
    return {
        "sandbox": sandbox.id,
        "url": f"{toolbox_url(call)}/{sandbox.id}/toolbox",
        "token": tokens.sign(world.settings.secret, "preview", _claims(sandbox, port)),
    }


def toolbox(world: World, call: Call) -> Sandbox:
    """The address below which every toolbox lies, for a sandbox that exists."""
    return lifecycle.get(world, call.owner, call.params["sandbox"])


def _claims(sandbox: Sandbox, port: int) -> dict[str, str | int]:
    return {"owner": sandbox.owner, "id": sandbox.id, "port": port}


ROUTES = (
    Route("GET", "/sandbox/{sandbox}/ports/{port}/preview-url", preview, PREVIEW),
    Route("GET", "/sandbox/{sandbox}/toolbox-proxy-url", toolbox, {"url": lambda _, call: toolbox_url(call)}),
)
