"""How Daytona writes the values of its fields."""

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chalicelib.core import limits
from chalicelib.core.errors import Unsupported
from chalicelib.dialect import Call, Needed, Parser, boolean, from_text, parse, some_text, text, texts, whole

LONGEST_INTERVAL = 10 * 365 * 24 * 60  # minutes
LONGEST_ARCHIVE_INTERVAL = 30 * 24 * 60  # minutes; what an auto-archive interval of 0 stands for
LONGEST_WORD = 256

cpus = whole(1, int(max(limits.FARGATE)))
memory_gib = whole(1, max(limits.FARGATE[max(limits.FARGATE)]) // limits.MIB)
disk_gib = whole(limits.DISK_GIB[0], limits.DISK_GIB[-1])


def flag(value: Any) -> bool:
    """A truth in a query or path, where Python's clients write True and False."""
    return bool(from_text(boolean)(value.lower() if isinstance(value, str) else value))


def word(value: Any) -> str:
    """A text short enough to be a name of something."""
    if len(some_text(value)) > LONGEST_WORD:
        raise ValueError(f"must have at most {LONGEST_WORD} characters")
    return some_text(value)


def idle_minutes(value: Any) -> timedelta | None:
    """An auto-stop interval: 0 is never."""
    return _minutes(value) or None


def archive_minutes(value: Any) -> timedelta:
    """An auto-archive interval: 0 is the longest there is."""
    return _minutes(value) or timedelta(minutes=LONGEST_ARCHIVE_INTERVAL)


def delete_minutes(value: Any) -> timedelta | None:
    """An auto-delete interval: negative is never, 0 is as soon as it is stopped."""
    minutes = whole(-LONGEST_INTERVAL, LONGEST_INTERVAL)(value)
    return timedelta(minutes=minutes) if minutes >= 0 else None


def lifetime_minutes(value: Any) -> timedelta | None:
    """A time to live: 0 is for ever."""
    return _minutes(value) or None


def minutes_told(span: timedelta | None, *, never: int) -> int:
    """A span as Daytona tells it: whole minutes, and its word for never."""
    return never if span is None else math.ceil(span / timedelta(minutes=1))


def labels_json(value: Any) -> Mapping[str, str]:
    """Labels in a query: a JSON object of texts. SDKs that ask for none send `null`."""
    try:
        told = json.loads(text(value))
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object of texts") from None
    return {} if told is None else texts(told)


def many(parser: Parser) -> Parser:
    """A query field that may be given once or several times."""
    return lambda value: [parser(item) for item in (value if isinstance(value, list) else [value])]


def not_offered(sentence: str, *, but: tuple[Any, ...] = ()) -> Parser:
    """A field that asks for what we do not have: refused with this sentence, unless it asks for nothing."""

    def parser(value: Any) -> None:
        if not any(type(value) is type(nothing) and value == nothing for nothing in but):
            raise Unsupported(sentence)

    return parser


def slot(call: Call, name: str, parser: Parser) -> Any:
    """A slot of the path, read like any field."""
    return parse({name: Needed(name, from_text(parser))}, {name: call.params[name]})[name]


def _minutes(value: Any) -> timedelta:
    return timedelta(minutes=whole(0, LONGEST_INTERVAL)(value))
