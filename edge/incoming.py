"""A client's request, read with suspicion: its target, its query, its body."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, unquote

from aiohttp import web

from chalicelib.core.errors import Invalid, Refused, TimedOut, TooLarge
from chalicelib.dialect import Request

MOST_QUERY_FIELDS = 200
ONCE = ("authorization", "host", "expect", "content-type")
TARGET = re.compile(r"/[!-~]*")


def split(http: web.BaseRequest) -> tuple[str, str, str]:
    """The first segment of a request's path, the rest as it came, and its query. Only paths are targets for us.

    RFC 9112, section 3.2: the absolute form is for proxies, the authority form for CONNECT; we are neither.
    """
    if not TARGET.fullmatch(http.raw_path):
        raise Invalid("the request's target must be a path")
    path, _, query = http.raw_path.partition("#")[0].partition("?")
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise Invalid("the path must not have segments '.' or '..'")
    for name in ONCE:
        if len(http.headers.getall(name, ())) > 1:
            raise Invalid(f"the header {name} may be there only once")
    first, _, rest = path[1:].partition("/")
    return first, "/" + rest, query


def understood(http: web.BaseRequest, path: str, query: str, id: str) -> Request:
    """The request without its body. HEAD is GET whose body is not sent, so the tables never speak of it."""
    try:
        fields = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=MOST_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise Invalid("the query is not UTF-8") from None
    except ValueError:
        raise Invalid(f"the query has more than {MOST_QUERY_FIELDS} fields") from None
    return Request(
        method="GET" if http.method == "HEAD" else http.method,
        path=path,
        query=fields,
        headers={name.lower(): value for name, value in http.headers.items()},
        source=http.remote or "",
        id=id,
    )


class Body:
    """A request's body: the client is asked for it (`Expect: 100-continue`) only once somebody wants it.

    `spent` tells whether a part of it was taken, so that it cannot be sent a second time; `problem` why it broke off.
    """

    def __init__(self, http: web.BaseRequest, *, most: int | None = None) -> None:
        self.http, self._most = http, most
        self.spent = False
        self.problem: Refused | None = None
        if most is not None and (http.content_length or 0) > most:
            raise TooLarge(f"the body has {http.content_length} bytes; at most {most} are taken here")

    @property
    def there(self) -> bool:
        """Whether there is a body at all."""
        return self.http.body_exists

    @property
    def size(self) -> int | None:
        """How many bytes it has, where that was told."""
        return self.http.content_length

    def begin(self) -> None:
        """It is wanted now."""
        welcome(self.http)
        self.spent = True

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they come, no faster than they are taken."""
        welcome(self.http)
        taken = 0
        try:
            async for chunk in self.http.content.iter_any():
                self.spent = True
                taken += len(chunk)
                if self._most is not None and taken > self._most:
                    raise TooLarge(f"the body has more than the {self._most} bytes that are taken here")
                yield chunk
        except web.RequestPayloadError as broken:
            self.problem = Invalid(f"the body is broken: {broken}"[:200])
            raise self.problem from None
        except TooLarge as problem:
            self.problem = problem
            raise

    async def whole(self, seconds: float) -> bytes:
        """All of it, or `TimedOut` where the client takes its time."""
        try:
            async with asyncio.timeout(seconds):
                return b"".join([chunk async for chunk in self.chunks()])
        except TimeoutError:
            raise TimedOut(f"the body did not arrive within {seconds:g} seconds") from None


def welcome(http: web.BaseRequest) -> None:
    """Tell a client that waits with its body to go on (RFC 9110, section 10.1.1)."""
    if awaits_welcome(http) and http.transport is not None and not http.content.at_eof():
        http[WELCOMED] = True
        http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def awaits_welcome(http: web.BaseRequest) -> bool:
    """Whether a client still waits to be told to send its body."""
    return WELCOMED not in http and http.headers.get("expect", "").lower() == "100-continue"


def is_last(http: web.BaseRequest) -> bool:
    """Whether nobody can know where the connection's next request begins: its body was not asked for, broke, or went past
    aiohttp."""
    return awaits_welcome(http) or LAST in http or http.content.exception() is not None


WELCOMED = web.RequestKey("welcomed", bool)
LAST = web.RequestKey("last", bool)
