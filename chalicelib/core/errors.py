"""The refusals of the core. A dialect gives each its status and shape; nobody else catches them.

Refused
├── Invalid           the request is wrong in itself
├── Unauthenticated   nobody we know is asking
├── Forbidden         known, but not allowed
├── NotFound          no such thing, or not the caller's
├── Conflict          the thing's state, its name or another caller is in the way
│   └── Stale         it was written since it was read: read again
├── LimitReached      a quota or a rate is used up
├── TooLarge          more bytes than we take
├── TimedOut          it did not happen within the time given
├── Unsupported       we know what is meant and do not offer it
└── Unavailable       ours or AWS's fault; asking again may help
"""

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A sentence the caller may read; `details` are facts a dialect may add to its error's shape."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


class Invalid(Refused):
    """The request is wrong in itself: say which field, which value and what would do."""


class Unauthenticated(Refused):
    """No key or token, or none that we know."""


class Forbidden(Refused):
    """The caller is known and lacks the permission."""


class NotFound(Refused):
    """No such thing, or it belongs to someone else, which must look the same."""


class Conflict(Refused):
    """The state of the thing, a taken name or a second caller stands in the way."""


class Stale(Conflict):
    """The thing was written since it was read: reading again and deciding anew may succeed."""


class LimitReached(Refused):
    """A quota or rate is used up: say the limit and what is in use."""


class TooLarge(Refused):
    """A body or field is longer than what we take."""


class TimedOut(Refused):
    """It did not happen within the time given."""


class Unsupported(Refused):
    """We know what is meant and do not offer it."""


class Unavailable(Refused):
    """A part that we need does not answer; the same request may work later."""
