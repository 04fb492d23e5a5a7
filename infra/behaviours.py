"""Which paths CloudFront hands to the edge: those that the dialects' tables say the edge serves, in as few patterns as do."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from chalicelib import gateway
from chalicelib.dialect import SLOT, Dialect

# AWS's own policies, the same in every account.
NO_CACHING = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
WHOLE_REQUEST = "216adef6-5c7f-47e4-b989-5492eafa07d3"
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"]


def cache_behaviours() -> list[dict[str, Any]]:
    """CloudFront's behaviours for the edge; all else is the default one's, which is API Gateway."""
    return [
        {
            "PathPattern": pattern,
            "TargetOriginId": "edge",
            "ViewerProtocolPolicy": "https-only",
            "AllowedMethods": METHODS,
            "CachePolicyId": NO_CACHING,
            "OriginRequestPolicyId": WHOLE_REQUEST,
        }
        for pattern in edge_patterns(gateway.dialect_named(name) for name in gateway.DIALECTS)
    ]


def edge_patterns(dialects: Iterable[Dialect]) -> list[str]:
    """The fewest and shortest patterns that match every route of the edge's and none of API Gateway's."""
    dialects = list(dialects)
    ours = [_path(dialect, route.path) for dialect in dialects for route in dialect.routes if route.on_edge]
    theirs = [_path(dialect, route.path) for dialect in dialects for route in dialect.routes if not route.on_edge]
    patterns: list[str] = []
    for path in sorted(ours, key=lambda path: path.count("/")):
        if not any(matches(pattern, path) for pattern in patterns):
            patterns.append(_shortest(path, theirs))
    return patterns


def matches(pattern: str, path: str) -> bool:
    """Whether CloudFront takes a path for this pattern: a * stands for anything, slashes too."""
    return fnmatchcase(path, pattern)


def _shortest(path: str, theirs: Sequence[str]) -> str:
    segments = path.split("/")
    beginnings = ("/".join(segments[:depth]) + "/*" for depth in range(3, len(segments)))
    for pattern in (*beginnings, path):
        if not any(matches(pattern, other) for other in theirs):
            return pattern
    raise ValueError(f"no pattern tells {path} from what API Gateway serves")


def _path(dialect: Dialect, path: str) -> str:
    return f"/{dialect.name}" + SLOT.sub("*", path)
