"""Which generation of Daytona's clients is calling. One server serves them all; what differs is decided here, by version.

Every SDK names its version in `X-Daytona-SDK-Version`. Whoever names none is answered as the API of version 0.109 was
written down, which is also the oldest form that is served.
"""

import re

from chalicelib.dialect import Request

Release = tuple[int, int]

SEED: Release = (0, 109)
OPEN_ENUMS: Release = (0, 148)  # since then a word that a client does not know no longer breaks it
JSON_LOGS: Release = (0, 167)  # before, a command's logs were bytes with a mark before each chunk
JSON_FILE_ERRORS: Release = (0, 170)  # before, what went wrong with one file of many was shown as it came
CURSOR_LISTS: Release = (0, 180)  # before, `GET /sandbox` answered with an array

VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.")


def release(request: Request) -> Release:
    """The version of the SDK that sent this request, without its patch level."""
    found = VERSION.match(request.headers.get("x-daytona-sdk-version", ""))
    return (int(found[1]), int(found[2])) if found else SEED


def takes_json_logs(request: Request) -> bool:
    """Whether it wants logs as JSON. One that names no version says it with `Accept`."""
    if "x-daytona-sdk-version" in request.headers:
        return release(request) >= JSON_LOGS
    return "json" in request.headers.get("accept", "")


def upgrades(request: Request) -> bool:
    """Whether it asks for a WebSocket."""
    return request.headers.get("upgrade", "").lower() == "websocket"
