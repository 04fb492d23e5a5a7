"""HTTP in and out: which dialect, who is asking, answer or refuse. Alone sees Chalice's request; the edge uses the rest."""

import functools
import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from chalicelib.core import access, audit, errors
from chalicelib.core.access import Caller
from chalicelib.core.audit import Actor
from chalicelib.core.errors import Invalid, NotFound, Refused, TooLarge
from chalicelib.core.world import World
from chalicelib.dialect import (
    Call,
    Dialect,
    Reply,
    Request,
    Route,
    bearer,
    parse,
    parse_query,
    render,
)

DIALECTS = ("daytona",)
"""The names of the dialects, each a module of `chalicelib.dialects` with a `DIALECT`. The sixth is added here."""

LARGEST_BODY = 1024 * 1024
Answerer: TypeAlias = Callable[[World, str, Request], Reply]
"""Answers a request below the path's first segment, which it is given."""

NOBODY = Caller(owner="", user="", permissions=frozenset())


@functools.cache
def dialect_named(name: str) -> Dialect:
    """The dialect of this name, imported when it is first spoken."""
    if name not in DIALECTS:
        raise NotFound(f"there is no API named {name[:40]!r}; there are: {', '.join(DIALECTS)}")
    dialect: Dialect = importlib.import_module(f"chalicelib.dialects.{name}").DIALECT
    return dialect


def answer(world: World, name: str, request: Request) -> Reply:
    """The reply to a request in this dialect. Every refusal becomes the dialect's error; anything else is ours to log."""
    dialect = dialect_named(name)
    try:
        route, call = admit(world, dialect, request)
        if route.on_edge:
            raise errors.Unsupported(f"{request.method} {request.path[:200]} is served by {world.settings.url}")
        return told(dialect, route, call, route.act(world.acting(actor(call)), call))  # type: ignore[operator]
    except Refused as refused:
        return refusal(dialect, request, refused)


def actor(call: Call) -> Actor:
    """Whom the audit log names for what this call does."""
    return audit.user(call.caller, source=call.request.source, agent=call.request.headers.get("user-agent", ""))


def admit(world: World, dialect: Dialect, request: Request) -> tuple[Route, Call]:
    """The route of a request and the call that it makes, once its caller is known and allowed and its fields are right."""
    route, params = dialect.matcher.match(request.method, request.path)
    caller = caller_of(world, route, request)
    request.notes.update({name: params[name] for name in params if name == "sandbox"})
    return route, understood(world, dialect, route, params, caller, request)


def caller_of(world: World, route: Route, request: Request) -> Caller:
    """Whoever asks, if the route is for them: `Unauthenticated` or `Forbidden` where it is not."""
    caller = NOBODY if route.open else access.identify(world, bearer(request))
    request.notes["organization"] = caller.owner
    caller.must(route.needs)
    return caller


def understood(
    world: World, dialect: Dialect, route: Route, params: Mapping[str, str], caller: Caller, request: Request
) -> Call:
    """The call that a request makes, or `Invalid` for a field that the route's tables do not take."""
    return Call(
        caller=caller,
        params=params,
        query=parse_query(route.query, request.query),
        body={} if route.body is None else parse(route.body, json_of(request)),
        request=request,
        url=f"{world.settings.url}/{dialect.name}",
    )


def told(dialect: Dialect, route: Route, call: Call, value: Any) -> Reply:
    """What an action (or an agent) returned, in the shape of its route."""
    if isinstance(value, Reply):
        return value
    status = route.status(value, call) if callable(route.status) else route.status
    if route.shape is None:
        return Reply(status, b"", dialect.headers)
    body = route.shape(value, call) if callable(route.shape) else render(route.shape, value, call)
    return json_reply(dialect, status, body)


def refusal(dialect: Dialect, request: Request, refused: Refused) -> Reply:
    """A refusal in the dialect's shape."""
    status = dialect.status(refused)
    return json_reply(dialect, status, dialect.error(refused, status, request))


def json_reply(dialect: Dialect, status: int, body: Any) -> Reply:
    """A JSON reply with the dialect's headers."""
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return Reply(status, raw, {"content-type": "application/json", **dialect.headers})


def json_of(request: Request) -> Any:
    """The JSON of a request's body; an empty body is an empty object, as some clients mean it."""
    if len(request.body) > LARGEST_BODY:
        raise TooLarge(f"the body has {len(request.body)} bytes; at most {LARGEST_BODY} are taken here")
    if not request.body.strip():
        return {}
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as problem:
        raise Invalid(f"the body is not JSON: {problem}") from None


def chalice_answer(request: Any, world: World, answerer: Answerer = answer) -> Any:
    """Chalice's request in, Chalice's response out. The first segment of the path is whose request it is: a dialect's."""
    from chalice.app import Response

    # Not request.path: Chalice takes that from the resource, which for a greedy route is only its pattern.
    name, _, path = request.to_original_event()["path"].strip("/").partition("/")
    ours = Request(
        method=request.method,
        path="/" + path,
        query=_all_values(request),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=request.raw_body or b"",
        source=request.context.get("identity", {}).get("sourceIp", ""),
        id=request.context.get("requestId", ""),
    )
    reply = answerer(world, name, ours)
    request.context["notes"] = ours.notes
    # Chalice takes bytes for binary content types alone, and here all is text.
    return Response(body=reply.body.decode(), status_code=reply.status, headers=dict(reply.headers))


def _all_values(request: Any) -> dict[str, list[str]]:
    query = request.query_params
    return {name: query.getlist(name) for name in query} if query else {}
