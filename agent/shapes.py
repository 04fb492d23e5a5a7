"""The grammar of request bodies and queries: a table of fields, each with what reads it and what it is when left out."""

import os
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from agent.errors import Refusal

Read = Callable[[str, Any], Any]
REQUIRED = object()

_VARIABLE = re.compile(r"[^=\0]+\Z")


def parse(document: Any, fields: Mapping[str, tuple[Read, Any]]) -> SimpleNamespace:
    """The fields' values as attributes. Refuses what is missing, unknown or of the wrong type; null means left out."""
    if not isinstance(document, dict):
        raise Refusal("invalid", "The body must be a JSON object.")
    if unknown := [key for key in document if key not in fields]:
        raise Refusal("invalid", f"Unknown field {str(unknown[0])[:100]!a}; known are {', '.join(fields)}.")
    return SimpleNamespace(**{name: _value(document.get(name), name, *fields[name]) for name in fields})


def _value(given: Any, name: str, read: Read, default: Any) -> Any:
    if given is not None:
        return read(name, given)
    if default is REQUIRED:
        raise Refusal("invalid", f"{name} is missing.")
    return default


def text(name: str, value: Any) -> str:
    """A string that the system can take: no NUL, no lone surrogates but those that stand for undecodable bytes."""
    if not isinstance(value, str):
        raise Refusal("invalid", f"{name} must be a string.")
    if "\0" in value:
        raise Refusal("invalid", f"{name} must not contain NUL.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise Refusal("invalid", f"{name} is not valid Unicode.") from None
    return value


def content(name: str, value: Any) -> bytes:
    """A string that is data: NUL is allowed."""
    if not isinstance(value, str):
        raise Refusal("invalid", f"{name} must be a string.")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Refusal("invalid", f"{name} is not valid Unicode.") from None


def word(name: str, value: Any) -> str:
    """A string with something in it."""
    if not text(name, value).strip():
        raise Refusal("invalid", f"{name} must not be empty.")
    return str(value)


def identifier(name: str, value: Any) -> str:
    """What callers name things: 1 to 256 characters."""
    if not 1 <= len(text(name, value)) <= 256:
        raise Refusal("invalid", f"{name} must have 1 to 256 characters.")
    return str(value)


def flag(name: str, value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise Refusal("invalid", f"{name} must be true or false.")
    return value


def whole(least: int, most: int) -> Read:
    def read(name: str, value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Refusal("invalid", f"{name} must be a whole number from {least} to {most}.")
        return value

    return read


def seconds(name: str, value: Any) -> float:
    """A span of time above nothing and up to a year."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 366 * 86400:
        raise Refusal("invalid", f"{name} must be a number of seconds above 0 and up to a year.")
    return float(value)


def one_of(*choices: str) -> Read:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Refusal("invalid", f"{name} must be one of {', '.join(choices)}.")
        return value

    return read


def list_of(read: Read, *, least: int = 0, most: int = 100_000) -> Read:
    def read_all(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise Refusal("invalid", f"{name} must be a list of {least} to {most} items.")
        return [read(f"{name}[{index}]", item) for index, item in enumerate(value)]

    return read_all


def variables(name: str, value: Any) -> dict[str, str]:
    """Environment variables: strings by name. Ours (`SANDBAR_*`) cannot be set."""
    if not isinstance(value, dict):
        raise Refusal("invalid", f"{name} must be an object of strings.")
    for key, item in value.items():
        if not _VARIABLE.match(text(f"a name in {name}", key)) or key.startswith("SANDBAR_"):
            raise Refusal("invalid", f"{key[:100]!a} in {name} cannot be the name of a variable.")
        text(f"{name}.{key[:100]}", item)
    return dict(value)


def permissions(name: str, value: Any) -> int:
    """A mode in octal, as in chmod: `644`, `0755`, `4755`."""
    if not isinstance(value, str) or not re.fullmatch(r"(0o)?[0-7]{3,5}", value) or int(value, 8) > 0o7777:
        raise Refusal("invalid", f"{name} must be a mode in octal such as 0644.")
    return int(value, 8)


def command(name: str, value: Any) -> str | list[str]:
    """A shell's line, or a program with its arguments."""
    if isinstance(value, list):
        words: list[str] = list_of(text, least=1)(name, value)
        if not words[0]:
            raise Refusal("invalid", f"{name}[0] must name a program.")
        return words
    return word(name, value)
