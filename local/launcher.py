"""`make run`: brings the whole stack up, keeps it up, and takes it down again.

The parts, in order: the two stores, the engine, the stand-in for AWS with the deployed template, the edge. A part that
dies is started again; the stand-in forgets all when it dies and is deployed to again. Whatever ends us, even a SIGKILL,
ends them; the containers alone go on then, and the next run finds them.
"""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from local import checks, engines, install, mounts, podman, progress, stack, steps
from local import home as homes
from local.children import Child, NotReady
from local.errors import SetupError
from local.home import Home
from local.settings import Settings, from_environment

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.2
MOST_DEATHS = 6
DEATHS_WITHIN_SECONDS = 60.0


def main() -> int:
    """Run until Ctrl-C or SIGTERM; 1, after one line that says what to do, where it cannot."""
    for number in STOP_SIGNALS:
        # A shell has background jobs ignore SIGINT, and nohup SIGHUP: of the two only the latter is meant for us.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        settings = from_environment(os.environ)
        home = homes.at(settings.data)
        homes.prepare(home)
        with checks.claimed(home):
            checks.port_is_free(settings.port)
            checks.disk_has_room(home.data)
            return _run(Run(settings, home))
    except (SetupError, NotReady, PermissionError) as problem:
        progress.complain(str(problem))
        return 1
    except KeyboardInterrupt:
        return 130


class Run:
    """The stack of one data folder, from its start to its end."""

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._ports = stack.pick_ports()
        self._told = stack.environment(home, self._ports)
        self._choice = engines.choose(home, settings.engine)
        self._parts: list[Child] = []
        self._revive: dict[str, Callable[[Child], None]] = {"cloud": self._revive_cloud}
        self._image = ""
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._began = time.monotonic()

    def start(self) -> None:
        """Bring everything up. Children are started by the main thread alone: they end when the thread that started
        them does."""
        if self._choice.kind == "process":
            progress.say(steps.NO_CONTAINERS)
        with ThreadPoolExecutor(max_workers=2) as pool:
            package = pool.submit(steps.package, self._home)
            image = pool.submit(steps.image, self._choice)
            with progress.step("The stores"):
                self._add(*stack.stores(self._home, self._ports, install.dynoxide(), self._told))
            self._image = image.result()
            with progress.step(f"The stand-in for AWS, with {self._choice.kind}"):
                self._add(*stack.engine(self._home, self._choice, self._told))
                self._add(stack.control(self._home, self._ports, self._choice, self._told))
            package.result()
        told = self._deploy()
        with progress.step("The edge"):
            edge = stack.edge(self._home, self._settings.port, told)
            edge.start()
            self._parts.append(edge)
            entry = steps.admit(self._home, self._settings, told)
            edge.await_ready()
        progress.say(steps.ready(self._settings, entry, time.monotonic() - self._began))

    def watch(self) -> None:
        """Start again whatever dies, until we are told to end; `NotReady` if that happens over and over."""
        while True:
            time.sleep(LOOK_SECONDS)
            for part in self._parts:
                if not part.alive():
                    self._note_death(part)
                    progress.say(f"{part.name} ended and is started again")
                    self._revive.get(part.name, _revive)(part)

    def stop(self) -> None:
        """Take everything down. Machines are stopped after the control plane, which would else believe that they died."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        by_name = {part.name: part for part in self._parts}
        for name in ("edge", "cloud"):
            if name in by_name:
                by_name.pop(name).end()
        halted = self._halt()
        for part in reversed(list(by_name.values())):
            part.end()
        left = mounts.release([self._home.data, self._home.run])
        for point in left:
            progress.complain(f"{point} is still mounted; unmount it with: umount {point}")
        if halted and not left and self._choice.kind == "podman":
            podman.tidy(self._home)

    def _halt(self) -> bool:
        """Whether no machine runs any more."""
        if self._choice.kind == "process" or not any(part.name == "cloud" for part in self._parts):
            return True
        for engine in (part for part in self._parts if part.name == "podman" and not part.alive()):
            _revive(engine)
        return steps.halt(self._home, self._choice)

    def _add(self, *parts: Child) -> None:
        for part in parts:
            part.start()
            self._parts.append(part)
        for part in parts:
            part.await_ready()

    def _deploy(self) -> dict[str, str]:
        """What the edge is told, after the template was deployed."""
        with progress.step("Deploying the template"):
            return steps.deploy(self._home, self._ports, self._settings, self._choice, self._image, self._told)

    def _revive_cloud(self, cloud: Child) -> None:
        _revive(cloud)
        self._deploy()

    def _note_death(self, part: Child) -> None:
        self._deaths.append(time.monotonic())
        if len(self._deaths) == MOST_DEATHS and self._deaths[-1] - self._deaths[0] < DEATHS_WITHIN_SECONDS:
            raise NotReady(f"{part.name} keeps ending: {part.last_words()} (see {part.log})")


def _run(run: Run) -> int:
    try:
        run.start()
        run.watch()
    except KeyboardInterrupt:
        progress.say("\nStopping ...")
    finally:
        run.stop()
    progress.say("Stopped. Nothing is lost: `make run` goes on where this ended.")
    return 0


def _revive(part: Child) -> None:
    part.start()
    part.await_ready()


if __name__ == "__main__":
    sys.exit(main())
