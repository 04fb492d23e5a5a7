"""What is not the edge's goes to API Gateway as it came."""

import io

import pytest
from yarl import URL

from tests.edge.house import House
from tests.edge.wire import Wire

MIB = 1024 * 1024


async def test_a_request_is_handed_on_unchanged_and_so_is_its_answer(house: House) -> None:
    reply = await house.client.post(
        URL(house.at("/stop?a=%2F+b&a=c"), encoded=True), data=b"{}", headers={"X-Own": "1"}
    )

    told = await reply.json()
    assert (reply.status, told["method"], told["size"]) == (207, "POST", 2)
    assert told["target"] == f"/restapis/abc/dev/tiny/box/{house.box.id}/stop?a=%2F+b&a=c"
    assert house.api.seen[0].headers["x-own"] == "1"
    assert house.api.seen[0].headers["authorization"] == "Bearer sb_owner_key"


async def test_headers_of_one_connection_stay_on_it(house: House) -> None:
    headers = {"Connection": "X-Mine, keep-alive", "X-Mine": "1", "TE": "trailers", "X-Forwarded-For": "1.2.3.4"}
    reply = await house.client.get(house.at(""), headers=headers)

    seen = house.api.seen[0].headers
    assert "x-mine" not in seen
    assert "te" not in seen
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-host"] == f"127.0.0.1:{house.port}"
    assert "x-gone" not in reply.headers
    assert reply.headers["x-kept"] == "1"


async def test_head_is_asked_as_get(house: House) -> None:
    reply = await house.client.head(house.at(""))

    assert (reply.status, await reply.read(), house.api.seen[0].method) == (207, b"", "GET")


@pytest.mark.parametrize(("size", "status"), [(6 * MIB, 207), (6 * MIB + 1, 413)])
async def test_a_body_above_what_lambda_takes_is_refused(house: House, size: int, status: int) -> None:
    reply = await house.client.post(house.at("/stop"), data=io.BytesIO(b"x" * size))

    assert reply.status == status


async def test_it_is_refused_before_it_is_read(house: House) -> None:
    wire = await Wire.to(house, "POST", "/stop", f"Content-Length: {6 * MIB + 1}")

    assert await wire.status() == 413
    assert b'"oops"' in wire.body
    assert not house.api.seen


async def test_it_is_refused_too_where_its_size_was_not_told(house: House) -> None:
    wire = await Wire.to(house, "POST", "/stop", "Transfer-Encoding: chunked")
    for _ in range(7):
        wire.send(b"100000\r\n" + b"x" * MIB + b"\r\n")

    assert await wire.status() == 413


async def test_a_control_plane_that_does_not_answer_is_unavailable(house: House) -> None:
    house.api.dead = True
    reply = await house.client.get(house.at(""))

    assert (reply.status, "control plane" in (await reply.json())["oops"]) == (503, True)
