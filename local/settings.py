"""What the person who runs it may say, by the environment.

| variable | what it says |
|---|---|
| SANDBAR_PORT | the port of the one address, on 127.0.0.1; 8080 |
| SANDBAR_DATA | the folder that holds everything that must not be lost; .data |
| SANDBAR_ENGINE | what runs the sandboxes: auto, docker, podman or process; auto |
| SANDBAR_WARM | how many booted machines wait for a sandbox, so that creating one takes no boot; 2 |
| SANDBAR_API_KEY | the first administrator's key; made and shown once where it is not given |
| SANDBAR_CACHE | the folder for what can be made again, such as images; ~/.cache/sandbar |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.errors import SetupError

MOST_WARM = 50


@dataclass(frozen=True)
class Settings:
    """The choices for one run."""

    port: int
    data: Path
    engine: str
    api_key: str | None
    warm: int = 2

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings; `SetupError` names the variable that is wrong."""
    port = environ.get("SANDBAR_PORT") or "8080"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise SetupError(f"SANDBAR_PORT={port} is no port; use a number from 1 to 65535")
    warm = environ.get("SANDBAR_WARM") or "2"
    if not warm.isdecimal() or int(warm) > MOST_WARM:
        raise SetupError(f"SANDBAR_WARM={warm} is no number of machines; use one from 0 to {MOST_WARM}")
    return Settings(
        port=int(port),
        data=Path(environ.get("SANDBAR_DATA") or ".data"),
        engine=environ.get("SANDBAR_ENGINE") or "auto",
        api_key=environ.get("SANDBAR_API_KEY") or None,
        warm=int(warm),
    )
