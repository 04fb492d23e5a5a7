"""Requests as hostile clients send them, and the few addresses that are the edge's own."""

import pytest

from tests.edge.house import House, house
from tests.edge.wire import Wire


async def test_the_edge_says_that_it_is_well(house: House) -> None:
    reply = await house.client.get(f"http://127.0.0.1:{house.port}/health")

    assert (reply.status, (await reply.json())["status"]) == (200, "ok")


async def test_the_first_page_names_the_apis(house: House) -> None:
    reply = await house.client.get(f"http://127.0.0.1:{house.port}/")

    assert (await reply.json())["apis"]["daytona"] == "http://127.0.0.1:8080/daytona"


@pytest.mark.parametrize("path", ["/agent/boot", "/nowhere", "/favicon.ico", "//tiny/box"])
async def test_what_is_nobodys_is_not_found_and_not_handed_on(house: House, path: str) -> None:
    wire = await Wire.open(house)
    wire.say(f"GET {path} HTTP/1.1", "Host: x")

    assert await wire.status() == 404
    assert wire.body.startswith(b'{"error"')
    assert not house.api.seen


async def test_a_path_that_a_dialect_lacks_is_refused_in_its_words(house: House) -> None:
    reply = await house.client.get(f"{house.url}/nothing")

    assert (reply.status, "oops" in await reply.json()) == (404, True)
    assert not house.api.seen


@pytest.mark.parametrize(
    "first",
    [
        "GET http://127.0.0.1:1/tiny/box/a HTTP/1.1",
        "GET http://tiny/box/a HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET /tiny/../agent/boot HTTP/1.1",
        "GET /tiny/%2e%2e/agent/boot HTTP/1.1",
        "GET /tiny/box/a/.%2E HTTP/1.1",
        "GET /tiny/box/\x01 HTTP/1.1",
        "GET /tiny/box/\xff HTTP/1.1",
        "\x16\x03\x01\x02",
        "GET /tiny/box/a?x=%FF HTTP/1.1",
        "GET /tiny/box/a?" + "a&" * 300 + " HTTP/1.1",
    ],
)
async def test_a_target_that_is_no_plain_path_is_refused(house: House, first: str) -> None:
    wire = await Wire.open(house)
    wire.send(f"{first}\r\nHost: x\r\n\r\n".encode("latin-1"))

    assert await wire.status() == 400
    assert not house.api.seen


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: +5",),
        ("Content-Length: -1",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("X: a\rY: b",),
        ("X: a\n Y: b\x00",),
        ("Host: y",),
        ("Authorization: Bearer other",),
        ("X: " + "a" * 20_000,),
        tuple(f"X-{n}: 1" for n in range(200)),
    ],
)
async def test_an_ambiguous_head_is_refused_and_the_connection_ends(house: House, headers: tuple[str, ...]) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", *headers)
    wire.send(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

    assert await wire.status() == 400
    assert not house.agent.seen


async def test_what_follows_a_chunked_body_is_no_second_request_of_the_agents(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", "Transfer-Encoding: chunked")
    wire.send(b"5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (await wire.status(), await wire.status()) == (200, 404)
    assert [request.path for request in house.agent.seen] == ["/file"]


async def test_a_header_cannot_be_broken_into_two(house: House) -> None:
    await house.client.get(house.at("/said/a%0D%0AX-Injected:%201?q=%0D%0AX-Injected:%201"))

    assert "x-injected" not in house.agent.seen[0].headers


async def test_one_connection_too_many_is_cut() -> None:
    async with house(most_connections=1) as small:
        first, second = await Wire.open(small), await Wire.open(small)

        assert await second.closed()
        first.say("GET /health HTTP/1.1", "Host: x")
        assert await first.status() == 200


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: "])
async def test_a_connection_that_says_nothing_whole_is_ended(said: bytes) -> None:
    async with house(head_seconds=0.1) as impatient:
        wire = await Wire.open(impatient)
        wire.send(said)

        assert await wire.closed()


async def test_an_encoded_body_is_refused_rather_than_kept_encoded(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", "Content-Length: 0", "Content-Encoding: gzip")

    assert await wire.status() == 501
    assert not house.agent.seen


async def test_an_error_of_ours_tells_nothing_but_where_to_look(house: House) -> None:
    house.boxes.broken = True
    reply = await house.client.post(house.at("/exec"), json={"command": "true"})

    told = (await reply.json())["oops"]
    assert reply.status == 500
    assert "the log has it under" in told
    assert "secret" not in told
