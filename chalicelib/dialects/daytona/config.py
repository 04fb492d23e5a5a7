"""What a client may know before it has a key: how this installation is set up, and whether it is well."""

from contextlib import suppress

from chalicelib.core.errors import NotFound
from chalicelib.core.world import World
from chalicelib.dialect import Call, Route, Shape
from chalicelib.dialects.daytona.fields import LONGEST_ARCHIVE_INTERVAL
from chalicelib.dialects.daytona.shapes import VERSION, toolbox_url

CONFIG: Shape = {
    "version": lambda _settings, _call: VERSION,
    # Nobody signs in through OIDC here: the console takes API keys. Clients demand the texts all the same.
    "oidc": lambda _settings, _call: {"issuer": "", "clientId": "", "audience": "", "provider": ""},
    "linkedAccountsEnabled": False,
    "announcements": lambda _settings, _call: {},
    "proxyTemplateUrl": lambda _settings, _call: "",  # the address of a preview is asked for, never guessed
    "proxyToolboxUrl": lambda _, call: toolbox_url(call),
    "defaultSnapshot": "default_image",
    "dashboardUrl": "url",
    "maxAutoArchiveInterval": LONGEST_ARCHIVE_INTERVAL,
    "maintananceMode": False,  # so it is spelt
    "environment": lambda _settings, _call: "production",
}

NOBODYS = "00000000-0000-0000-0000-000000000000"


def health(world: World, call: Call) -> dict[str, object]:
    """That the database answers; `Unavailable` where it does not."""
    with suppress(NotFound):
        world.sandboxes.owner_of(NOBODYS)
    parts = {"database": {"status": "up"}}
    return {"status": "ok", "info": parts, "error": {}, "details": parts}


HEALTH: Shape = {"status": "status", "info": "info", "error": "error", "details": "details"}

ROUTES = (
    Route("GET", "/config", lambda world, _: world.settings, CONFIG, open=True),
    Route("GET", "/health", health, HEALTH, open=True),
    Route("GET", "/health/ready", health, HEALTH, open=True),
)
