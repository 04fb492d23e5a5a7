"""Sandboxes under the name that they had before June 2025. The same actions, on `/workspace`."""

from dataclasses import replace

from chalicelib.dialect import Body, Route, each
from chalicelib.dialects.daytona import changing, previews, sandboxes
from chalicelib.dialects.daytona.creating import NEW_WORKSPACE, create
from chalicelib.dialects.daytona.fields import flag, labels_json
from chalicelib.dialects.daytona.listing import everything
from chalicelib.dialects.daytona.shapes import SANDBOX, WORKSPACE

LIST: Body = {"labels": ("labels", labels_json), "verbose": ("", flag)}

SAME = (
    "",
    "/start",
    "/stop",
    "/labels",
    "/public/{public}",
    "/autostop/{interval}",
    "/autoarchive/{interval}",
    "/ports/{port}/preview-url",
)
"""What of a sandbox's own paths a workspace has too."""


def _alias(route: Route) -> Route:
    path = route.path.replace("/sandbox/", "/workspace/", 1)
    return replace(route, path=path, shape=WORKSPACE if route.shape is SANDBOX else route.shape)


ROUTES = (
    Route("POST", "/workspace", create, WORKSPACE, NEW_WORKSPACE, needs="write:sandboxes"),
    Route("GET", "/workspace", everything, each(WORKSPACE), query=LIST),
    *(
        _alias(route)
        for route in (*sandboxes.ROUTES, *changing.ROUTES, *previews.ROUTES)
        if route.path.removeprefix("/sandbox/{sandbox}") in SAME
    ),
)
