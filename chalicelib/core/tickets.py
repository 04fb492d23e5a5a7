"""Requests that may be repeated: who creates a sandbox under a key of their own gets that one sandbox, however often they ask.

The ticket is taken in the transaction that writes the sandbox, so of two who ask at once one creates, and the other is given
what was created.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.core.errors import Invalid

REMEMBERED = timedelta(hours=24)
LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request under a key, as hashes of the key and of what was asked, and until when it is remembered."""

    key: str
    asked: str
    until: datetime


def ticket(key: str, asked: Mapping[str, Any], now: datetime) -> Ticket:
    """The ticket of a request that is made now. A key is whatever its client makes up."""
    if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
        raise Invalid(f"a request's key has 1 to {LONGEST_KEY} printable characters, not {len(key)}")
    return Ticket(_hash(key), _hash(json.dumps(asked, sort_keys=True, default=str)), now + REMEMBERED)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
