"""Calls that a sandbox's agent answers: as JSON in the dialect's shape, or as bytes that stream through."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp import ClientResponse, web

from chalicelib import gateway
from chalicelib.dialect import SLOT, Call, Relay, filled
from edge.agents import Agents, Question
from edge.headers import ASKED_OF_AGENT, ASKED_OF_STREAM, SAFE, TOLD_BY_AGENT, chosen
from edge.incoming import Body, is_last
from edge.splice import CutShort, spliced, worth_it
from edge.visit import NAME, Admitted, Broken, sent


async def relayed(agents: Agents, admitted: Admitted, row: Relay) -> web.StreamResponse:
    """The agent's answer to a call, sent or ready to be."""
    question = asked(admitted, row)
    async with agents.asked(admitted.call.owner, admitted.sandbox, question) as response:
        if row.receive == "stream":
            return await _streamed(admitted, row, response)
        value = await agents.value(admitted.call.owner, response)
    reply = gateway.told(admitted.dialect, admitted.route, admitted.call, value)
    return sent(admitted.http, reply)


def asked(admitted: Admitted, row: Relay, said: Mapping[str, Any] | None = None) -> Question:
    """What a row asks of the agent: with the call's own fields, or with others instead."""
    path, fields = placed(row.path, admitted.call, said)
    headers = chosen(admitted.http.headers, ASKED_OF_STREAM) if row.receive == "stream" else {}
    if row.send == "stream":
        body = Body(admitted.http)
        headers |= chosen(admitted.http.headers, ASKED_OF_AGENT)
        return Question(row.method, path, _pairs(fields), headers, body if body.there else None)
    if row.send == "query" or row.method == "GET":
        return Question(row.method, path, _pairs(fields), headers)
    headers["content-type"] = "application/json"
    return Question(row.method, path, (), headers, json.dumps(fields, ensure_ascii=False).encode(errors="replace"))


def placed(path: str, call: Call, said: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The agent's path with its slots filled, from the route's slots first, and the fields that it does not name."""
    fields = {**call.query, **call.body} if said is None else said
    slots = set(SLOT.findall(path)) - set(call.params)
    told = {**{name: str(fields[name]) for name in slots}, **call.params}
    return filled(path, told), {name: value for name, value in fields.items() if name not in slots}


async def _streamed(admitted: Admitted, row: Relay, response: ClientResponse) -> web.StreamResponse:
    """The bytes of the agent's answer, no faster than the client takes them."""
    headers = {**chosen(response.headers, TOLD_BY_AGENT), **SAFE, **NAME, **admitted.dialect.headers, **row.headers}
    return await poured(admitted.http, response, headers)


async def poured(http: web.BaseRequest, source: ClientResponse, headers: Mapping[str, str]) -> web.StreamResponse:
    """A reply of this status and these headers whose body comes from there."""
    reply = web.StreamResponse(status=source.status, headers=headers)
    if is_last(http):
        reply.force_close()
    await reply.prepare(http)
    if http.method == "HEAD":
        return reply
    if worth_it(source.content_length):
        try:
            await spliced(source, reply, http)
        except CutShort as problem:
            raise Broken(f"what answers broke off: {problem}") from None
    else:
        async for chunk in _chunks(source):
            await reply.write(chunk)
    await reply.write_eof()
    return reply


async def _chunks(source: ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in source.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, ConnectionError) as problem:
        raise Broken(f"what answers broke off: {problem}"[:200]) from None


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields as a query: a list is its name again and again, true and false are written as JSON writes them."""
    pairs = []
    for name, value in fields.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            pairs.append((name, each if isinstance(each, str) else json.dumps(each)))
    return pairs
