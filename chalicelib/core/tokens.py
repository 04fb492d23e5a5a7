"""Short signed texts that say who speaks: a machine that boots, its agent, a visitor of a preview.

A token is `<kind>.<claims>.<signature>`, claims as base64url JSON, signed with HMAC-SHA-256 (RFC 2104) under a key derived
from the installation's secret and the kind, so that a token of one kind is worthless as another. Nothing is stored.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chalicelib.core.errors import Unauthenticated

LONGEST = 4096


def sign(secret: bytes, kind: str, claims: Mapping[str, Any], *, until: datetime | None = None) -> str:
    """A token that says these claims, for ever or until a time. Equal claims make equal tokens."""
    said = dict(claims) if until is None else {**claims, "until": int(until.timestamp())}
    body = f"{kind}.{_encode(json.dumps(said, sort_keys=True, separators=(',', ':')).encode())}"
    return f"{body}.{_signature(secret, kind, body)}"


def read(secret: bytes, kind: str, token: str, *, now: datetime) -> dict[str, Any]:
    """The claims of a token of this kind, or `Unauthenticated`: forged, of another kind, or out of time."""
    refusal = Unauthenticated(f"this {kind} token is not valid or no longer valid")
    body, _, signature = token.rpartition(".")
    if (
        len(token) > LONGEST
        or not token.isascii()
        or not hmac.compare_digest(_signature(secret, kind, body), signature)
    ):
        raise refusal
    claims: dict[str, Any] = json.loads(_decode(body.partition(".")[2]))
    if "until" in claims and claims.pop("until") <= now.timestamp():
        raise refusal
    return claims


def _signature(secret: bytes, kind: str, body: str) -> str:
    key = hmac.digest(secret, kind.encode(), hashlib.sha256)
    return _encode(hmac.digest(key, body.encode(), hashlib.sha256))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
