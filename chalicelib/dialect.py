"""The grammar of a dialect: rows of routes, tables for what comes in and shapes for what goes out.

A dialect is data. A field of a request has one of four fates: mapped to a word of ours, set aside (None, the reason beside
it in the table), pinned to what we offer (`Only`), or refused, because no table names it. Nothing is dropped in silence.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import quote, unquote

from chalicelib.core import errors
from chalicelib.core.access import Caller
from chalicelib.core.errors import Invalid, NotFound, Refused, Unsupported
from chalicelib.core.world import World

# ---------------------------------------------------------------- what comes in


@dataclass(frozen=True)
class Request:
    """An HTTP request, whoever received it. Header names are in lower case, the path is below the dialect's prefix."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    source: str = ""  # the caller's network address
    id: str = ""
    notes: dict[str, str] = field(default_factory=dict)  # what is found out about it on the way, for the log


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, ready to send."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A request that was understood: who asks, the path's slots, and query and body in our words."""

    caller: Caller
    params: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    request: Request
    url: str  # the one address plus the dialect's prefix

    @property
    def owner(self) -> str:
        """The organization whose things this call may see."""
        return self.caller.owner


Parser: TypeAlias = Callable[[Any], Any]
"""Takes a wire value, returns ours, or raises ValueError with what it must be: 'must be text'."""


@dataclass(frozen=True)
class Needed:
    """A field that must be there."""

    name: str
    parser: Parser


@dataclass(frozen=True)
class Only:
    """A field that may only say what we offer; then it is dropped, for it says nothing."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)


Body: TypeAlias = Mapping[str, tuple[str, Parser] | Needed | Only | None]
"""What becomes of each field. Under an empty name of ours it is only looked at: wrong is refused, right is set aside."""


def parse(table: Body, raw: Any) -> dict[str, Any]:
    """The fields of a JSON object in our words, or `Invalid` with the field, its value and what it must be.

    null counts as absent, unless the field is needed.
    """
    if not isinstance(raw, dict):
        raise Invalid(f"the body must be a JSON object, not {shown(raw)}")
    if unknown := [name for name in raw if name not in table]:
        raise Invalid(f"unknown field {shown(unknown[0])}; known are: {', '.join(table)}")
    out: dict[str, Any] = {}
    for wire, fate in table.items():
        value = raw.get(wire)
        if isinstance(fate, Needed) and value is None:
            raise Invalid(f"{wire} is missing")
        if value is None or fate is None:
            continue
        if isinstance(fate, Only):
            if value not in fate.values or any(isinstance(value, bool) != isinstance(v, bool) for v in fate.values):
                raise Invalid(f"{wire} may only be {' or '.join(map(shown, fate.values))}, not {shown(value)}")
            continue
        name, parser = (fate.name, fate.parser) if isinstance(fate, Needed) else fate
        out[name] = _parsed(wire, parser, value)
    out.pop("", None)
    return out


def parse_query(table: Body, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The same for a query string, whose values are texts; of a repeated name the list of them."""
    return parse(table, {name: values[0] if len(values) == 1 else list(values) for name, values in query.items()})


def _parsed(wire: str, parser: Parser, value: Any) -> Any:
    try:
        return parser(value)
    except ValueError as problem:
        raise Invalid(f"{wire} {problem}, not {shown(value)}") from None


def shown(value: Any) -> str:
    """A value as an error shows it: JSON, cut to a length that fits in a sentence."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def text(value: Any) -> str:
    """Text without NUL, which neither paths nor processes can hold."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return value


def some_text(value: Any) -> str:
    """Text that is not empty."""
    if not text(value):
        raise ValueError("must not be empty")
    return text(value)


def boolean(value: Any) -> bool:
    """true or false, nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def number(least: float, most: float) -> Parser:
    """A finite number between two bounds, both included."""

    def parser(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return value

    return parser


def whole(least: int, most: int) -> Parser:
    """A whole number between two bounds, both included. 3.0 is one."""

    def parser(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != value
            or not least <= value <= most
        ):
            raise ValueError(f"must be a whole number from {least} to {most}")
        if value != int(value):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return parser


def one_of(*words: str) -> Parser:
    """One of these words."""

    def parser(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return parser


def texts(value: Any) -> dict[str, str]:
    """An object whose values are texts."""
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("must be an object of texts")
    return {text(k): text(v) for k, v in value.items()}


def list_of(parser: Parser, *, most: int = 10_000) -> Parser:
    """A list of at most so many, each of a kind."""

    def whole_list(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"must be a list of at most {most}")
        return [parser(item) for item in value]

    return whole_list


def from_text(parser: Parser) -> Parser:
    """For query strings and paths: the text read as JSON where it is JSON (a number, true), else as it is."""

    def reader(value: Any) -> Any:
        try:
            return parser(json.loads(value) if isinstance(value, str) else value)
        except (json.JSONDecodeError, RecursionError):
            return parser(value)

    return reader


# ---------------------------------------------------------------- what goes out


@dataclass(frozen=True)
class Null:
    """A field that is there even where it has nothing to say: as null."""

    value: "str | Callable[[Any, Call], Any]"


Shape: TypeAlias = Mapping[str, str | Callable[[Any, Call], Any] | Null | int | bool]
"""Wire names and where their values come from: a name of ours (dots reach inside), a function, or a constant number."""


def render(shape: Shape, value: Any, call: Call) -> dict[str, Any]:
    """A value of ours in the dialect's shape. What has nothing to say (None) is left out, unless it is `Null`."""
    out = {}
    for wire, source in shape.items():
        told = _told(source.value if isinstance(source, Null) else source, value, call)
        if told is not None or isinstance(source, Null):
            out[wire] = told
    return out


def _told(source: Any, value: Any, call: Call) -> Any:
    if callable(source):
        return source(value, call)
    if not isinstance(source, str):
        return source
    for step in source.split("."):
        value = value.get(step) if isinstance(value, Mapping) else getattr(value, step, None)
    return value


def each(shape: Shape) -> Callable[[Iterable[Any], Call], list[dict[str, Any]]]:
    """A list of values, each in this shape."""
    return lambda values, call: [render(shape, value, call) for value in values]


# ---------------------------------------------------------------- rows

Action: TypeAlias = Callable[[World, Call], Any]
"""Does what a route is for and returns a value of ours, or a `Reply` of its own."""


@dataclass(frozen=True)
class Relay:
    """A call that the sandbox's agent answers, carried by the edge. `{slots}` come from the route's path.

    `path` may have slots for fields of the query and body too, and a query of its own for what is always so.
    `send`: what the agent gets: the parsed fields, those of the query and of the body together, as JSON or (always where
    the method is GET) as a query; or the request's bytes as they come, with the fields as a query.
    `receive`: what the caller gets: the agent's JSON in the route's shape, its bytes as they come, or nothing.
    `headers`: on the reply to the caller, over the agent's.
    """

    method: str
    path: str
    send: Literal["json", "query", "stream"] = "json"
    receive: Literal["json", "stream", "nothing"] = "json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Bridge(Protocol):
    """Between a client's WebSocket and the agent's: each frame (text or bytes) becomes any number of frames or a `Close`."""

    def opened(self) -> "Sequence[Frame]": ...
    def from_agent(self, frame: str | bytes) -> "Sequence[Frame]": ...
    def from_client(self, frame: str | bytes) -> "Sequence[Frame]": ...
    def agent_closed(self, code: int, reason: str) -> "Close": ...


@dataclass(frozen=True)
class Close:
    """The end of a WebSocket."""

    code: int = 1000
    reason: str = ""


Frame: TypeAlias = str | bytes | Close


@dataclass(frozen=True)
class Socket:
    """A WebSocket that the edge carries to the agent's. `before` is a call that the agent must have answered first."""

    path: str
    bridge: Callable[[Call], Bridge]
    before: "Callable[[Call], tuple[Relay, Mapping[str, Any]]] | None" = None
    protocols: tuple[str, ...] = ()  # subprotocols, or beginnings of them ('x~'), that are chosen where offered


@dataclass(frozen=True)
class Route:
    """One row: what is asked, who may, how it is read, who answers, how that is told.

    A `Relay` or `Socket` (or a function of the call that picks one) is served by the edge and needs a `{sandbox}` slot,
    which is looked up among the caller's own; every other action gets the caller and can see only what is its owner's.
    """

    method: str
    path: str
    act: "Action | Relay | Socket | Pick"
    shape: Shape | Callable[[Any, Call], Any] | None = None
    body: Body | None = None
    query: Body = field(default_factory=dict)
    status: "int | Callable[[Any, Call], int]" = 200
    needs: str = ""  # the permission, beyond being known
    open: bool = False  # for anybody, known or not

    @property
    def on_edge(self) -> bool:
        """Served by the edge rather than by Lambda."""
        return isinstance(self.act, Relay | Socket | Pick)


@dataclass(frozen=True)
class Pick:
    """Chooses between relays by what the call says, such as its SDK's version."""

    choose: Callable[[Call], Relay | Socket]


STATUSES: Mapping[type[Refused] | str, int] = {
    errors.Invalid: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TimedOut: 408,
    errors.Conflict: 409,
    errors.Stale: 409,
    errors.TooLarge: 413,
    errors.LimitReached: 429,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
}


@dataclass(frozen=True)
class Dialect:
    """A whole API: its name is its prefix. `error` makes the body of a refusal from it, its status and the request."""

    name: str
    routes: tuple[Route, ...]
    error: Callable[[Refused, int, Request], Mapping[str, Any]]
    statuses: Mapping[type[Refused] | str, int] = field(default_factory=dict)  # by error, or by an agent's code
    headers: Mapping[str, str] = field(default_factory=dict)  # on every reply

    def status(self, refused: Refused) -> int:
        """This dialect's status for a refusal. What an agent refused has the agent's code in its details."""
        statuses = {**STATUSES, **self.statuses}
        return statuses.get(refused.details.get("code", ""), statuses[type(refused)])

    @functools.cached_property
    def matcher(self) -> "Matcher":
        """What finds its routes."""
        return Matcher(self.routes)


def bearer(request: Request) -> str | None:
    """The token of an `Authorization: Bearer` header (RFC 6750, section 2.1)."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


SLOT = re.compile(r"{(\w+)}")


@dataclass
class Branch:
    """What may follow a part of a path: a literal segment, a slot, or the end, with the routes that end here."""

    literal: "dict[str, Branch]" = field(default_factory=dict)
    slot: "Branch | None" = None
    routes: list[Route] = field(default_factory=list)


class Matcher:
    """Finds the route of a method and path: literal segments win over slots, the earlier row over the later."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = Branch()
        for route in routes:
            branch = self._root
            for segment in route.path.strip("/").split("/"):
                if segment.startswith("{"):
                    branch.slot = branch = branch.slot or Branch()
                else:
                    branch = branch.literal.setdefault(segment, Branch())
            branch.routes.append(route)

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its slots, percent-decoded; `NotFound`, or `Unsupported` where only the method is wrong."""
        segments, others = path.strip("/").split("/"), set()
        for route in _ending(self._root, segments):
            if route.method == method:
                pairs = zip(route.path.strip("/").split("/"), segments, strict=True)
                return route, {pattern[1:-1]: unquote(segment) for pattern, segment in pairs if pattern[:1] == "{"}
            others.add(route.method)
        if others:
            raise Unsupported(f"{method} is not offered at {path[:200]}; it takes {', '.join(sorted(others))}")
        raise NotFound(f"there is nothing at {method} {path[:200]}")


def _ending(branch: Branch, segments: Sequence[str]) -> Iterator[Route]:
    """The routes at the end of a path, the best first."""
    if not segments:
        yield from branch.routes
        return
    if segments[0] in branch.literal:
        yield from _ending(branch.literal[segments[0]], segments[1:])
    if branch.slot is not None and segments[0]:
        yield from _ending(branch.slot, segments[1:])


def filled(path: str, params: Mapping[str, str]) -> str:
    """A relay's path with its slots filled, percent-encoded, so that no value can reach another path."""
    return SLOT.sub(lambda slot: quote(params[slot[1]], safe=""), path)
