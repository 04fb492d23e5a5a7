"""Identifiers: UUIDs of version 7 (RFC 9562, section 5.7), so that their order is the order of creation."""

import secrets
import uuid
from datetime import datetime


def new_id(now: datetime) -> str:
    """A new identifier: 48 bits of milliseconds, then 74 random bits."""
    milliseconds = int(now.timestamp() * 1000) & (2**48 - 1)
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def first_id(at: datetime) -> str:
    """What is not above any identifier that is made at this time or later, and above every older one."""
    return str(uuid.UUID(int=(int(at.timestamp() * 1000) & (2**48 - 1)) << 80))


def id_before(id: str) -> str:
    """The greatest text of this form that is below it."""
    return str(uuid.UUID(int=max(uuid.UUID(id).int - 1, 0)))


def is_id(text: str) -> bool:
    """Whether it has the form of one."""
    return len(text) == 36 and text.count("-") == 4 and all(c in "0123456789abcdef-" for c in text)
