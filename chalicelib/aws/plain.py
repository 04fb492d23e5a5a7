"""Values of the core to and from what JSON can say, led by their type hints, so that a new field needs no code here."""

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, Union

T = TypeVar("T")


def plain(value: Any) -> Any:
    """The value as JSON says it: times as ISO 8601, spans in seconds, sets in order, dataclasses as objects.

    Of a dataclass it says what makes it equal to another.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def build(kind: type[T], said: Mapping[str, Any]) -> T:
    """The dataclass that was said. Fields that it does not have are passed over, fields not said keep their defaults."""
    return kind(
        **{name: _built(hint, said[name]) for name, hint in _hints(typing.cast(Hashable, kind)).items() if name in said}
    )


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.compare}


def _built(hint: Any, said: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return None if said is None else _built(next(one for one in inner if one is not types.NoneType), said)
    if origin is tuple:
        return tuple(_built(inner[0], item) for item in said)
    if origin is frozenset:
        return frozenset(_built(inner[0], item) for item in said)
    if hint is datetime:
        return datetime.fromisoformat(said)
    if hint is timedelta:
        return timedelta(seconds=said)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), said)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(said)
    return said
