"""Makes the engine that runs the machines here."""

from local.engine import Engine
from local.home import Home


def connect(home: Home, kind: str, url: str) -> Engine:
    """The engine of that kind. What an engine imports is only imported where it is used."""
    if kind == "process":
        from local.processes import ProcessEngine

        return ProcessEngine(home)
    from local.containers import ContainerEngine

    return ContainerEngine(home, kind=kind, url=url)
