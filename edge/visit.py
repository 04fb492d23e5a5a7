"""One request on its way through the edge, and the answers that go back to its client."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from chalicelib.dialect import Call, Dialect, Reply, Request, Route
from edge.incoming import is_last

NAME = {"server": "sandbar"}


class Broken(Exception):
    """An answer that was begun cannot be finished. The client must see that, so its connection is cut."""


@dataclass
class Visit:
    """What is known of a request so far. `told` is what its line in the log says beyond the usual."""

    http: web.BaseRequest
    id: str
    dialect: Dialect | None = None
    path: str = ""
    request: Request | None = None
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> Request:
        """The request, or as much of it as is known where it could not be read."""
        return self.request or Request(method=self.http.method, path=self.path, id=self.id)


@dataclass(frozen=True)
class Admitted:
    """A request that was understood and may be answered."""

    http: web.BaseRequest
    dialect: Dialect
    route: Route
    call: Call

    @property
    def sandbox(self) -> str:
        """The id or name of the sandbox that it is for."""
        return self.call.params["sandbox"]


def sent(http: web.BaseRequest, reply: Reply) -> web.Response:
    """A reply as aiohttp sends it."""
    response = web.Response(status=reply.status, body=reply.body, headers={**NAME, **reply.headers})
    if is_last(http):
        response.force_close()
    return response
