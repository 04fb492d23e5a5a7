"""What the edge is told by its environment.

| variable | what it says |
|---|---|
| SANDBAR_HOST, SANDBAR_PORT | where to listen; 127.0.0.1 and 8080 |
| SANDBAR_API | the URL of the REST API's stage, to which whatever is not the edge's is handed |

The World's own variables are in chalicelib/wiring.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Where the edge listens and what stands behind it, and the limits that it keeps."""

    api: str
    host: str = "127.0.0.1"
    port: int = 8080
    most_connections: int = 4096
    threads: int = 16  # for the World, whose calls block
    connect_seconds: float = 2.0
    head_seconds: float = 30.0  # for a new connection to say what it wants
    json_seconds: float = 60.0  # for a client to send a JSON body
    grace_seconds: float = 5.0  # for calls in progress when the edge is told to end


def from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings, or ValueError with the variable that is wrong."""
    api = environ.get("SANDBAR_API", "").rstrip("/")
    if not api.startswith(("http://", "https://")):
        raise ValueError(f"SANDBAR_API must be the URL of the REST API's stage, not {api!r}")
    port = environ.get("SANDBAR_PORT") or "8080"
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"SANDBAR_PORT must be a port number, not {port!r}")
    return Settings(api=api, host=environ.get("SANDBAR_HOST") or "127.0.0.1", port=int(port))
