"""What the agents say to us: the four calls of docs/AGENT.md, each with a token that says whose machine is speaking."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.core import audit, checkpoints, errors, movements
from chalicelib.core.errors import Invalid, NotFound, Refused, TooLarge, Unauthenticated
from chalicelib.core.world import World
from chalicelib.dialect import Body, Needed, Reply, Request, bearer, boolean, list_of, parse, some_text, text, whole

LARGEST_BODY = 4 * 1024 * 1024  # a checkpoint of 10,000 parts names them all

CODES: Mapping[type[Refused], tuple[int, str]] = {
    errors.Invalid: (400, "invalid"),
    errors.Unauthenticated: (401, "unauthorized"),
    errors.Forbidden: (403, "forbidden"),
    errors.NotFound: (404, "not_found"),
    errors.TimedOut: (408, "timeout"),
    errors.Conflict: (409, "conflict"),
    errors.Stale: (409, "conflict"),
    errors.TooLarge: (413, "too_large"),
    errors.Unsupported: (415, "unsupported"),
    errors.LimitReached: (429, "busy"),
    errors.Unavailable: (503, "unavailable"),
}
"""The status and code of each refusal, in the agent's own shape of errors."""


@dataclass(frozen=True)
class Said:
    """A call of an agent's: its token and its fields."""

    token: str
    fields: Mapping[str, Any]


def answer(world: World, name: str, request: Request) -> Reply:
    """The reply to an agent."""
    try:
        if request.method != "POST" or request.path not in CALLS:
            raise NotFound(f"there is nothing at {request.method} /{name}{request.path[:200]}")
        body, act = CALLS[request.path]
        return _reply(
            200, act(world.acting(audit.machine(request.source)), Said(_token(request), parse(body, _json(request))))
        )
    except Refused as refused:
        status, code = CODES[type(refused)]
        return _reply(status, {"error": code, "message": refused.message})


def _boot(world: World, said: Said) -> Mapping[str, Any]:
    return movements.boot(world, said.token)


def _hello(world: World, said: Said) -> Mapping[str, Any]:
    movements.arrive(world, said.token, error=said.fields.get("error"))
    return {}


def _parts(world: World, said: Said) -> Mapping[str, Any]:
    urls = checkpoints.more_parts(world, said.token, first=said.fields["first"], count=said.fields["count"])
    return {"part_urls": list(urls)}


def _saved(world: World, said: Said) -> Mapping[str, Any]:
    fields = said.fields
    checkpoints.saved(
        world,
        said.token,
        checkpoint=fields["checkpoint"],
        etags=_in_order(fields.get("parts", [])),
        size=fields.get("size", 0),
        sha256=fields.get("sha256", ""),
        error=fields.get("error"),
    )
    return {}


def _in_order(parts: list[dict[str, Any]]) -> list[str]:
    """The ETags of the parts 1, 2, 3, ...: all of them, each once."""
    by_number = {part["number"]: part["etag"] for part in parts}
    if sorted(by_number) != list(range(1, len(parts) + 1)):
        raise Invalid(f"parts must be numbered 1 to {len(parts)}, each once")
    return [by_number[number] for number in sorted(by_number)]


def _part(value: Any) -> dict[str, Any]:
    try:
        return parse(PART, value)
    except Invalid as refused:
        raise ValueError(f"must hold parts: {refused.message}") from None


def _sha256(value: Any) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text(value)):
        raise ValueError("must be 64 hexadecimal digits")
    return text(value)


PART: Body = {
    "number": Needed("number", whole(1, checkpoints.MOST_PARTS)),
    "etag": Needed("etag", some_text),
    "size": None,  # the store knows how long the whole became
}

CALLS: Mapping[str, tuple[Body, Callable[[World, Said], Mapping[str, Any]]]] = {
    "/boot": (
        {
            "sandbox": None,  # the token says whose machine it is
            "agent_version": None,  # for the log
        },
        _boot,
    ),
    "/hello": (
        {
            "sandbox": None,
            "task_token": None,  # we know who waits
            "port": None,  # every agent listens on the same
            "restored": ("restored", boolean),
            "error": ("error", text),
        },
        _hello,
    ),
    "/parts": (
        {
            "sandbox": None,
            "checkpoint": None,  # a sandbox saves one at a time
            "from": Needed("first", whole(1, checkpoints.MOST_PARTS)),
            "count": Needed("count", whole(1, checkpoints.MOST_PARTS_AT_ONCE)),
        },
        _parts,
    ),
    "/saved": (
        {
            "sandbox": None,
            "checkpoint": Needed("checkpoint", some_text),
            "task_token": None,  # we know who waits
            "parts": ("parts", list_of(_part, most=checkpoints.MOST_PARTS)),
            "size": ("size", whole(0, 2**53)),
            "sha256": ("sha256", _sha256),
            "files": None,  # for the log
            "error": ("error", text),
        },
        _saved,
    ),
}
"""The calls by their path: the fields that each takes and what it does."""


def _token(request: Request) -> str:
    if token := bearer(request):
        return token
    raise Unauthenticated("an agent shows its token as 'Authorization: Bearer <token>'")


def _json(request: Request) -> Any:
    if len(request.body) > LARGEST_BODY:
        raise TooLarge(f"the body has {len(request.body)} bytes; at most {LARGEST_BODY} are taken here")
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as problem:
        raise Invalid(f"the body is not JSON: {problem}") from None


def _reply(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(body).encode(), {"content-type": "application/json"})
