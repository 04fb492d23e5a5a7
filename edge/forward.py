"""Whatever is not the edge's goes to API Gateway as it came, and its answer comes back as it is."""

from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import ClientSession, web
from yarl import URL

from chalicelib.core.errors import Unavailable
from edge.headers import OURS, passed
from edge.incoming import Body
from edge.relay import poured
from edge.visit import NAME

MOST_LAMBDA_TAKES = 6 * 1024 * 1024
"""AWS Lambda's limit for a synchronous call (quota "Invocation payload"); refused here before a byte of it is read."""


async def forwarded(session: ClientSession, api: str, http: web.BaseRequest) -> web.StreamResponse:
    """API Gateway's answer to a request."""
    body = Body(http, most=MOST_LAMBDA_TAKES)
    try:
        response = await session.request(
            "GET" if http.method == "HEAD" else http.method,
            URL(api + http.raw_path, encoded=True),
            data=body.chunks() if body.there else None,
            headers=_headers(http),
            allow_redirects=False,
        )
    except (aiohttp.ClientError, ConnectionError) as problem:
        if body.problem:
            raise body.problem from None
        raise Unavailable("the control plane does not answer just now; try again") from problem
    async with response:
        headers = passed(response.headers)
        headers.update(NAME)
        return await poured(http, response, headers)


def _headers(http: web.BaseRequest) -> Mapping[str, Any]:
    headers = passed(http.headers, without=OURS)
    headers["X-Forwarded-For"] = http.remote or ""
    headers["X-Forwarded-Proto"] = "http"
    if "host" in http.headers:
        headers["X-Forwarded-Host"] = http.headers["host"]
    return headers
