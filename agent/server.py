"""The table of everything that the agent answers, and the loop that serves it."""

import asyncio
import os
import signal
import time

from agent import (
    VERSION,
    content,
    files,
    git_calls,
    ports,
    processes,
    proxy,
    searching,
    session_calls,
    shapes,
    terminal_calls,
)
from agent.boot import DAMAGED, Booted, Ended, hello
from agent.children import shield_from_oom_killer
from agent.control import Control
from agent.machine import Machine, describe
from agent.protocol import factory, warm
from agent.sessions import forget as forget_sessions
from agent.web import Application, Reply, Request, Route, Socket, answer


async def health(machine: Machine, request: Request) -> Reply:
    return answer({"status": "ok", "version": VERSION, "uptime_seconds": round(time.monotonic() - machine.started, 3)})


async def info(machine: Machine, request: Request) -> Reply:
    return answer(describe(machine))


async def environment(machine: Machine, request: Request) -> Reply:
    return answer(machine.environment())


async def change_environment(machine: Machine, request: Request) -> Reply:
    asked = await request.json({"set": (shapes.variables, {}), "unset": (shapes.list_of(shapes.word), [])})
    machine.change(asked.set, asked.unset)
    return answer(machine.environment())


async def save_checkpoint(machine: Machine, request: Request) -> Reply:
    from agent.checkpoint import saving  # rarely needed, and zstandard is not small

    return await saving.save(machine, request)


async def show_checkpoint(machine: Machine, request: Request) -> Reply:
    from agent.checkpoint import saving

    return await saving.show(machine, request)


ROUTES: list[Route] = [
    Route("GET", "/health", health, open=True),
    Route("GET", "/info", info),
    Route("GET", "/env", environment),
    Route("PATCH", "/env", change_environment),
    Route("POST", "/exec", processes.execute),
    Route("POST", "/sessions", session_calls.create),
    Route("GET", "/sessions", session_calls.index),
    Route("GET", "/sessions/{id}", session_calls.show),
    Route("DELETE", "/sessions/{id}", session_calls.delete),
    Route("POST", "/sessions/{id}/commands", session_calls.run),
    Route("GET", "/sessions/{id}/commands/{command}", session_calls.command),
    Route("GET", "/sessions/{id}/commands/{command}/output", session_calls.output),
    Route("POST", "/sessions/{id}/commands/{command}/input", session_calls.feed),
    Route("POST", "/sessions/{id}/commands/{command}/kill", session_calls.kill),
    Route("GET", "/files", files.index),
    Route("DELETE", "/files", files.delete),
    Route("GET", "/files/info", files.show),
    Route("GET", "/files/content", content.download),
    Route("HEAD", "/files/content", content.download),
    Route("PUT", "/files/content", content.put),
    Route("POST", "/files/upload", content.upload),
    Route("POST", "/files/download", content.download_many),
    Route("POST", "/files/folder", files.make_folder),
    Route("GET", "/files/find", searching.find),
    Route("GET", "/files/search", searching.search),
    Route("POST", "/files/replace", searching.replace),
    Route("POST", "/files/move", files.move),
    Route("POST", "/files/permissions", files.set_permissions),
    Route("POST", "/git/clone", git_calls.clone),
    Route("POST", "/git/init", git_calls.init),
    Route("POST", "/git/add", git_calls.add),
    Route("POST", "/git/commit", git_calls.commit),
    Route("POST", "/git/push", git_calls.push),
    Route("POST", "/git/pull", git_calls.pull),
    Route("POST", "/git/checkout", git_calls.checkout),
    Route("GET", "/git/status", git_calls.status),
    Route("GET", "/git/branches", git_calls.branches),
    Route("POST", "/git/branches", git_calls.make_branch),
    Route("DELETE", "/git/branches", git_calls.delete_branch),
    Route("GET", "/git/history", git_calls.history),
    Route("POST", "/git/reset", git_calls.reset),
    Route("POST", "/git/restore", git_calls.restore),
    Route("GET", "/git/remotes", git_calls.remotes),
    Route("POST", "/git/remotes", git_calls.make_remote),
    Route("DELETE", "/git/remotes", git_calls.delete_remote),
    Route("GET", "/git/config", git_calls.get_config),
    Route("POST", "/git/config", git_calls.set_config),
    Route("POST", "/git/credentials", git_calls.store_credentials),
    Route("POST", "/terminals", terminal_calls.create),
    Route("GET", "/terminals", terminal_calls.index),
    Route("GET", "/terminals/{id}", terminal_calls.show),
    Route("DELETE", "/terminals/{id}", terminal_calls.delete),
    Route("POST", "/terminals/{id}/resize", terminal_calls.resize),
    Route("POST", "/terminals/{id}/signal", terminal_calls.signal),
    Route("GET", "/ports", ports.index),
    Route("*", "/proxy/{port}/*", proxy.proxy),
    Route("POST", "/checkpoints", save_checkpoint),
    Route("GET", "/checkpoints/{id}", show_checkpoint),
]
SOCKETS: list[Socket] = [
    Socket("/sessions/{id}/commands/{command}/follow", session_calls.follow),
    Socket("/terminals/{id}/attach", terminal_calls.attach),
    Socket("/ports/{port}", ports.carry),
]


async def serve(booted: Booted, control: Control) -> None:
    """Listen, say hello, and serve until SIGTERM. Ends with an exit code where there is nothing to serve."""
    if booted.problem is not None:
        await asyncio.to_thread(hello, booted, 0, control)
        raise Ended(DAMAGED, booted.problem)
    machine, loop = booted.machine, asyncio.get_running_loop()
    machine.children.watch()
    forget_sessions(machine)
    shield_from_oom_killer()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    application = Application(machine, ROUTES, SOCKETS)
    server = await loop.create_server(
        factory(machine, application), machine.settings.host, machine.settings.port, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    machine.port = port
    greeting = asyncio.create_task(asyncio.to_thread(hello, booted, port, control))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((greeting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if greeting.done():
        greeting.result()
    machine.errands.add(asyncio.create_task(asyncio.to_thread(warm)))
    await stopped
    server.close()
    await machine.children.end_all(grace=0.8)
    # Whatever still runs in threads (an upload, a walk) is nobody's any more.
    os._exit(0)
