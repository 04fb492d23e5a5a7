"""Single commands and pieces of code."""

import base64
import binascii
import re
from typing import Any

from chalicelib.dialect import Body, Needed, Relay, Route, Shape, list_of, number, one_of, some_text, text, texts

LONGEST_TIMEOUT = 24 * 60 * 60

WRAPPED = re.compile(
    r"""sh\ -c\ "
    (?P<exports>(?:export\ \w+=\$\(echo\ '[A-Za-z0-9+/=]*'\ \|\ base64\ -d\);)*)
    \ ?echo\ '(?P<script>[A-Za-z0-9+/=]*)'\ \|\ base64\ -d\ \|\ sh
    \"""",
    re.VERBOSE,
)
EXPORT = re.compile(r"export (\w+)=\$\(echo '([A-Za-z0-9+/=]*)' \| base64 -d\);")


def seconds(value: Any) -> float | None:
    """A timeout; 0 is none, as absent is."""
    return number(0, LONGEST_TIMEOUT)(value) or None


def command(value: Any) -> str | list[str]:
    """A command for the shell; one that an SDK before 0.156 wrapped is unwrapped.

    Those SDKs encode script and environment against a daemon that knew no shell. To pass their wrapping through a shell
    would expand it one time too often; and without it two processes and a pipe are saved.
    """
    wrapped = WRAPPED.fullmatch(some_text(value))
    if not wrapped:
        return some_text(value)
    exports = [f"{name}={_decoded(word)}" for name, word in EXPORT.findall(wrapped["exports"])]
    script = ["sh", "-c", _decoded(wrapped["script"])]
    return ["env", *exports, *script] if exports else script


def _decoded(word: str) -> str:
    try:
        return text(base64.b64decode(word, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("must wrap base64 of UTF-8") from None


EXECUTE: Body = {
    "command": Needed("command", command),
    "cwd": ("cwd", text),
    "envs": ("env", texts),
    "timeout": ("timeout_seconds", seconds),
}

CODE: Body = {
    "code": Needed("code", text),
    "language": Needed("language", one_of("python", "javascript", "typescript")),
    "argv": ("argv", list_of(text)),
    "envs": ("env", texts),
    "timeout": ("timeout_seconds", seconds),
}

RESULT: Shape = {"exitCode": "exit_code", "result": "output"}

ROWS = (
    Route("POST", "/process/execute", Relay("POST", "/exec"), RESULT, EXECUTE),
    Route("POST", "/process/code-run", Relay("POST", "/code"), {**RESULT, "artifacts": "artifacts"}, CODE),
)
