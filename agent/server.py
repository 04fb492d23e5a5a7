"""The loop that serves: from listening to the last child's end."""

import asyncio
import os
import signal

from agent.boot import DAMAGED, Booted, Ended, hello
from agent.children import shield_from_oom_killer
from agent.control import Control
from agent.protocol import factory, warm
from agent.routes import ROUTES, SOCKETS
from agent.sessions import forget as forget_sessions
from agent.web import Application


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
