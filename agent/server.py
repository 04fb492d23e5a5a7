"""The loop that serves: from listening to the last child's end."""

import asyncio
import os
import signal

from agent.application import Application
from agent.boot import DAMAGED, Booted, Ended, hello
from agent.children import shield_from_oom_killer
from agent.control import Control
from agent.machine import Machine
from agent.protocol import factory, warm
from agent.routes import ROUTES, SOCKETS
from agent.sessions import forget as forget_sessions


async def serve(booted: Booted, control: Control) -> None:
    """Listen, say hello, and serve until SIGTERM. Ends with an exit code where there is nothing to serve."""
    if booted.problem is not None:
        await asyncio.to_thread(hello, booted, 0, control)
        raise Ended(DAMAGED, booted.problem)
    machine, stop = booted.machine, _stop_signal()
    machine.children.watch()
    forget_sessions(machine)
    shield_from_oom_killer()
    server = await _listening(machine)
    greeting = asyncio.create_task(asyncio.to_thread(hello, booted, machine.port, control))
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


def _stop_signal() -> asyncio.Event:
    """Set when we are told to end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _listening(machine: Machine) -> asyncio.Server:
    """The server, accepting calls; the machine then knows its port."""
    protocol = factory(machine, Application(machine, ROUTES, SOCKETS))
    given = machine.settings
    server = await asyncio.get_running_loop().create_server(protocol, given.host, given.port, backlog=1024)
    machine.port = server.sockets[0].getsockname()[1]
    return server
