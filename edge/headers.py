"""Which headers pass, and which stay."""

from collections.abc import Iterable, Mapping

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""RFC 9110, section 7.6.1: they speak of one connection."""

OURS = frozenset(
    (
        "host",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-real-ip",
    )
)
"""What we say ourselves to whom we hand a request: nobody stands in front of us whose word on these would count."""

ASKED_OF_AGENT = ("content-type", "content-length")
ASKED_OF_STREAM = ("range", "if-range", "if-none-match", "if-modified-since", "if-unmodified-since", "if-match")
"""What of a client's request its agent may see. Never the client's key."""

TOLD_BY_AGENT = (
    "content-type",
    "content-length",
    "content-range",
    "accept-ranges",
    "content-disposition",
    "etag",
    "last-modified",
    "cache-control",
)
"""What of an agent's answer its client may see. A sandbox sets no cookies and no policies on our address."""

SAFE = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'"}
"""What a sandbox made is not to be run by a browser as if it were ours."""


def chosen(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Those headers of these names that are there."""
    return {name: headers[name] for name in names if name in headers}


def passed(headers: "CIMultiDictProxy[str]", without: frozenset[str] = frozenset()) -> "CIMultiDict[str]":
    """All headers but those that speak of one connection, which the header Connection may name too."""
    named = {name.strip().lower() for value in headers.getall("connection", ()) for name in value.split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        if name.lower() not in HOP_BY_HOP | without | named:
            kept.add(name, value)
    return kept
