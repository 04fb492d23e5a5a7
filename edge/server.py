"""The one address: finds out whose a request is, has it answered, and tells of it in one line of the log."""

import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import ClientSession, web

from chalicelib import gateway
from chalicelib.core.errors import Refused, Unavailable, Unsupported
from chalicelib.core.world import World
from chalicelib.dialect import STATUSES, Dialect, Pick, Relay, Reply, Request, Route, Socket
from edge import VERSION, incoming
from edge.activity import Activity
from edge.agents import Agents
from edge.forward import forwarded
from edge.incoming import Body
from edge.known import Known
from edge.relay import relayed
from edge.settings import Settings
from edge.sockets import carried
from edge.visit import Admitted, Broken, Visit, sent

access_log = logging.getLogger("edge.access")
log = logging.getLogger(__name__)

GONE = 499
"""What the log says of a client that left before its answer; nobody is sent it."""


class Edge:
    """Answers every request that comes to the one address."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        session: ClientSession,
        known: Known,
        activity: Activity,
        dialect_named: Callable[[str], Dialect] = gateway.dialect_named,
    ) -> None:
        self._world, self._settings, self._session = world, settings, session
        self._known, self._dialect_named = known, dialect_named
        self._agents = Agents(known, session, activity)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request: of whoever it is for, or a refusal in the words of its dialect."""
        visit, began, status = Visit(http, id=secrets.token_hex(8)), time.perf_counter(), GONE
        try:
            response = await self._answered(visit)
            status = response.status
            return response
        except Broken as broken:
            visit.told["broken"] = str(broken)
            if http.transport is not None:
                http.transport.abort()
            raise ConnectionError(str(broken)) from None
        finally:
            took = round((time.perf_counter() - began) * 1000, 2)
            line = {"request": visit.id, "method": http.method, "path": http.raw_path.partition("?")[0][:500]}
            access_log.info("request", extra={**line, "status": status, "took_ms": took, **visit.told})

    async def close(self) -> None:
        """End what would go on for ever."""
        await self._agents.close()

    async def _answered(self, visit: Visit) -> web.StreamResponse:
        try:
            return await self._routed(visit)
        except Refused as refused:
            reply = _refusal(visit, refused)
        except (ConnectionError, Broken):
            raise
        except Exception:
            log.exception("failed", extra={"request": visit.id})
            reply = _failure(visit)
        if visit.http.writer.output_size:
            raise Broken(f"failed with {reply.status} after the answer had begun")
        return sent(visit.http, reply)

    async def _routed(self, visit: Visit) -> web.StreamResponse:
        name, path, query = incoming.split(visit.http)
        if path == "/" and name in OWN and visit.http.method in ("GET", "HEAD"):
            return sent(visit.http, OWN[name](self._world))
        visit.dialect, visit.path = self._dialect_named(name), path
        visit.request = incoming.understood(visit.http, path, query, visit.id)
        route, params = visit.dialect.matcher.match(visit.request.method, path)
        if route.on_edge:
            return await self._served(visit, visit.dialect, visit.request, route, params)
        try:
            return await forwarded(self._session, self._settings.api, visit.http)
        finally:
            if visit.request.method != "GET":
                self._known.forget(params.get("sandbox", ""))

    async def _served(
        self, visit: Visit, dialect: Dialect, request: Request, route: Route, params: Mapping[str, str]
    ) -> web.StreamResponse:
        visit.told["sandbox"] = params["sandbox"][:100]
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Unsupported("the body must be sent as it is, without Content-Encoding")
        caller = await self._known.caller(route, request)
        visit.told["organization"] = caller.owner
        if route.body is not None:
            body = Body(visit.http, most=gateway.LARGEST_BODY)
            request = replace(request, body=await body.whole(self._settings.json_seconds))
        call = gateway.understood(self._world, dialect, route, params, caller, request)
        row = route.act.choose(call) if isinstance(route.act, Pick) else route.act
        admitted = Admitted(visit.http, dialect, route, call)
        if isinstance(row, Relay):
            return await relayed(self._agents, admitted, row)
        assert isinstance(row, Socket)
        return await carried(self._agents, admitted, row)


def _refusal(visit: Visit, refused: Refused) -> Reply:
    if visit.dialect is None:
        return _json(STATUSES[type(refused)], {"error": refused.message})
    return gateway.refusal(visit.dialect, visit.asked, refused)


def _failure(visit: Visit) -> Reply:
    """What a client hears of an error of ours: nothing but where to find it in the log."""
    failed = Unavailable(f"something went wrong here; the log has it under {visit.id}")
    if visit.dialect is None:
        return _json(500, {"error": failed.message})
    return gateway.json_reply(visit.dialect, 500, visit.dialect.error(failed, 500, visit.asked))


def _health(world: World) -> Reply:
    return _json(200, {"status": "ok", "version": VERSION})


def _index(world: World) -> Reply:
    apis = {name: f"{world.settings.url}/{name}" for name in gateway.DIALECTS}
    return _json(200, {"name": "sandbar", "version": VERSION, "apis": apis})


def _json(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(body).encode(), {"content-type": "application/json"})


OWN: Mapping[str, Callable[[World], Reply]] = {"": _index, "health": _health}
"""What the edge answers itself, by the only segment of the path."""
