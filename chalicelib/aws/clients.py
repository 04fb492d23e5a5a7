"""botocore's clients: one session and one client a service in each process, made when first asked for."""

import threading
from typing import Any

import botocore.session
from botocore.config import Config

CONFIG: dict[str, Any] = {
    "connect_timeout": 2,
    "read_timeout": 8,
    "retries": {"total_max_attempts": 3, "mode": "standard"},
    "max_pool_connections": 20,
    # What we send is built by us; checking it against the model again costs 0.15 ms a call.
    "parameter_validation": False,
}


class Clients:
    """Clients by the name of their service. Region, credentials and endpoints come from botocore's own settings."""

    def __init__(self, **overrides: Any) -> None:
        self._overrides = overrides  # of every create_client, as tests need
        self._session: Any = None
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __getitem__(self, service: str) -> Any:
        """The client of this service."""
        if service not in self._made:
            # Making clients is not thread-safe in botocore.
            with self._lock:
                self._made.setdefault(service, self._make(service))
        return self._made[service]

    def _make(self, service: str) -> Any:
        if self._session is None:
            self._session = botocore.session.get_session()
        # Path style: the stand-in and buckets with dots in their names need it; "s3v4" lets a URL bind its headers.
        special = {"s3": {"addressing_style": "path"}, "signature_version": "s3v4"} if service == "s3" else {}
        return self._session.create_client(service, config=Config(**CONFIG, **special), **self._overrides)
