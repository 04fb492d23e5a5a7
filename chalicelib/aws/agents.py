"""The agents' HTTP: small JSON questions over the sandboxes' private addresses."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from chalicelib.core.agent_errors import from_agent
from chalicelib.core.errors import Unavailable

TIMEOUT_SECONDS = 10.0
LONGEST_ANSWER = 4 * 1024 * 1024


class HttpAgents:
    """`Agents`, reached over HTTP."""

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout

    def ask(self, address: str, token: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """One request on a connection of its own: questions are rare, and a sandbox may be gone at the next."""
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=self._timeout)
        said = json.dumps(body).encode() if body else b""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        try:
            connection.request(method, path, said, headers)
            with connection.getresponse() as response:
                status, raw = response.status, response.read(LONGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as problem:
            raise Unavailable(f"the sandbox does not answer: {type(problem).__name__}") from problem
        finally:
            connection.close()
        return _told(status, raw)


def _told(status: int, raw: bytes) -> Mapping[str, Any]:
    if len(raw) > LONGEST_ANSWER:
        raise Unavailable(f"the sandbox's answer is longer than {LONGEST_ANSWER} bytes")
    try:
        answer = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(f"the sandbox's answer of status {status} is not a JSON object")
    if status >= 400:
        raise from_agent(answer, status)
    return answer
