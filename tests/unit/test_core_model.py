"""Whatever callers, machines and the weather do in whatever order: what must always hold, holds."""

from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chalicelib import tasks
from chalicelib.core import deadlines, lifecycle
from chalicelib.core.errors import Refused
from chalicelib.core.lifecycle import Wish
from chalicelib.core.pools import WARM, Pool
from chalicelib.core.sandbox import Filter, Policy, Sandbox, Size
from chalicelib.core.states import ASKED, BOOTING, MOVING, State
from chalicelib.core.sweep import sweep
from chalicelib.core.world import Settings
from tests.examples import OWNER
from tests.fakes import Clock
from tests.playing import SECRET, House

MINUTE = timedelta(minutes=1)
POLICIES = st.builds(
    Policy,
    stop_after_idle=st.sampled_from([None, MINUTE, 30 * MINUTE]),
    archive_after_stopped=st.sampled_from([None, 10 * MINUTE]),
    delete_after_stopped=st.sampled_from([None, 20 * MINUTE]),
)
SIZES = st.sampled_from([Size(cpu=1, memory_mib=2048, disk_gib=3), Size(cpu=2, memory_mib=4096, disk_gib=3)])
WARMED = Pool("default", Size(cpu=1, memory_mib=2048, disk_gib=3), 2)


class AnInstallation(RuleBasedStateMachine):
    """A house of sandboxes to which everything may happen."""

    def __init__(self) -> None:
        super().__init__()
        decided = Settings(secret=SECRET, url="http://127.0.0.1:8080", pools=(WARMED,))
        self.house = House(decided, Clock(step=timedelta(milliseconds=1)))
        self.world = self.house.world
        self.numbers = iter(range(10_000))
        self.written: dict[str, bytes] = {}

    @initialize()
    def warm_up(self) -> None:
        self._attempt(sweep, self.world)
        self.house.play()

    @rule(policy=POLICIES, size=SIZES, name=st.sampled_from(["a", "b", None]))
    def create(self, policy: Policy, size: Size, name: str | None) -> None:
        self._attempt(lifecycle.create, self.world, OWNER, Wish(name=name, policy=policy, size=size))

    @precondition(lambda self: self._rows())
    @rule(data=st.data(), event=st.sampled_from(sorted(ASKED)))
    def ask(self, data: st.DataObject, event: Any) -> None:
        self._attempt(lifecycle.ask, self.world, OWNER, self._any(data).id, event)

    @precondition(lambda self: self._rows())
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        """Its user writes a file, and the edge notes that."""
        one = self._any(data)
        if one.state is State.STARTED and self.house.task_of(one).running:
            content = str(next(self.numbers)).encode()
            self.house.task_of(one).disk["/home/file"] = self.written[one.id] = content
            self.house.sandboxes.touch(one, self.house.clock.now())

    @precondition(lambda self: self._rows())
    @rule(data=st.data())
    def change_labels(self, data: st.DataObject) -> None:
        self._attempt(lifecycle.change, self.world, OWNER, self._any(data).id, labels={"n": str(next(self.numbers))})

    @rule()
    def play(self) -> None:
        self.house.play()

    @rule(minutes=st.sampled_from([1, 3, 15]))
    def wait(self, minutes: int) -> None:
        self.house.clock.turn(minutes * MINUTE)
        self._attempt(sweep, self.world)

    @rule(
        refuses=st.booleans(),
        mute=st.booleans(),
        quick=st.booleans(),
        damaged=st.sampled_from(["", "damaged"]),
        full=st.sampled_from(["", "full"]),
    )
    def change_the_weather(self, refuses: bool, mute: bool, quick: bool, damaged: str, full: str) -> None:
        self.house.agents_are_quick = quick
        self._weather(refuses=refuses, mute=mute, damaged=damaged, full=full)

    @precondition(lambda self: any(task.running for task in self.house.machines.tasks))
    @rule(data=st.data())
    def let_a_machine_die(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task for task in self.house.machines.tasks if task.running]))
        self.written = {id: content for id, content in self.written.items() if task.disk.get("/home/file") != content}
        self._attempt(self.house.die, task)

    @precondition(lambda self: self.house.workflows.executions)
    @rule(data=st.data())
    def lose_a_workflow(self, data: st.DataObject) -> None:
        """As a kill of everything on one machine does."""
        token = data.draw(st.sampled_from(sorted(self.house.workflows.executions)))
        self.house.workflows.executions[token].status = "ABORTED"

    @precondition(lambda self: self._moving())
    @rule(data=st.data())
    def run_out_of_time(self, data: st.DataObject) -> None:
        self._attempt(self.house.time_out, data.draw(st.sampled_from(self._moving())))

    @precondition(lambda self: self.house.workflows.executions)
    @rule(data=st.data(), task=st.sampled_from(["settle", "give_up", "save"]))
    def repeat_a_report(self, data: st.DataObject, task: str) -> None:
        """Of a workflow that has ended: whatever it says is late."""
        present = {one.movement for one in self._moving()}
        told = self.house.workflows.executions.values()
        ended = [e for e in told if e.status in ("SUCCEEDED", "FAILED") and e.movement not in present]
        if ended:
            one = data.draw(st.sampled_from(ended))
            said = {"owner": one.sandbox.owner, "id": one.sandbox.id, "movement": one.movement}
            late = {"task": task, "workflow": one.workflow, "task_token": "late", "error": {"Error": "late"}, **said}
            before = self._rows()
            self._attempt(tasks.perform, self.world, late)
            assert self._rows() == before

    @invariant()
    def what_is_started_has_a_machine_that_knows_it(self) -> None:
        for one in (*self._rows(), *self._rows(WARM)):
            if one.state is State.STARTED:
                assert one.machine is not None
                assert self.house.task_of(one).movement == one.incarnation
            if one.state in BOOTING | {State.STOPPED, State.ARCHIVED}:
                assert one.machine is None

    @invariant()
    def a_machine_is_one_sandboxes(self) -> None:
        machines = [one.machine for one in (*self._rows(), *self._rows(WARM)) if one.machine]

        assert len(machines) == len(set(machines))

    @invariant()
    def names_are_their_sandboxes(self) -> None:
        for one in self._rows():
            assert self.house.sandboxes.named(OWNER, one.name) == one

    @invariant()
    def whatever_moves_will_be_looked_at(self) -> None:
        for one in self._rows():
            assert not one.moving or deadlines.deadline(one)

    def teardown(self) -> None:
        """In good weather everything comes to rest, nothing runs that is nobody's, and what was saved is there."""
        self._weather()
        for _ in range(8):
            self.house.play()
            for one in self._moving():
                self._attempt(self.house.time_out, one)
            self.house.clock.turn(3 * MINUTE)
            self._attempt(sweep, self.world)
        self.house.play()

        assert not self._moving()
        running = {task.machine for task in self.house.machines.tasks if task.running}
        assert running == {one.machine for one in (*self._rows(), *self._rows(WARM)) if one.machine}
        assert len(self._rows(WARM)) == WARMED.count
        self._files_are_there()

    def _files_are_there(self) -> None:
        for one in self._rows():
            if one.state in (State.STOPPED, State.ARCHIVED) and one.id in self.written:
                lifecycle.ask(self.world, OWNER, one.id, "start")  # type: ignore[arg-type]
                self.house.play()
                back = self.house.sandboxes.get(OWNER, one.id)
                assert self.house.task_of(back).disk.get("/home/file") == self.written[one.id]

    def _weather(self, *, refuses: bool = False, mute: bool = False, damaged: str = "", full: str = "") -> None:
        self.house.ecs_refuses, self.house.agents_are_mute = refuses, mute
        self.house.agents_cannot_restore, self.house.agents_cannot_save = damaged, full

    def _rows(self, owner: str = OWNER) -> list[Sandbox]:
        return list(self.house.sandboxes.list(owner, Filter(), limit=1000).items)

    def _moving(self) -> list[Sandbox]:
        return [one for one in (*self._rows(), *self._rows(WARM)) if one.state in MOVING]

    def _any(self, data: st.DataObject) -> Sandbox:
        return data.draw(st.sampled_from(self._rows()))

    def _attempt(self, act: Any, *args: Any, **kwargs: Any) -> None:
        """A refusal is an answer; anything else is a fault."""
        try:
            act(*args, **kwargs)
        except Refused:
            return


AnInstallation.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnInstallation = AnInstallation.TestCase
