"""Measures contestants in turns, so that what disturbs the machine disturbs all of them alike, and says which goals are met."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Contestant: TypeAlias = Callable[[], float | None]
"""Does the work once. What it returns are the seconds that count, where not all of its time does."""

OURS = "sandbar"


@dataclass(frozen=True)
class Times:
    """What each round took, in seconds, the shortest first."""

    seconds: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """What this share of the rounds did not exceed."""
        return self.seconds[max(0, math.ceil(share * len(self.seconds)) - 1)]

    @property
    def p50(self) -> float:
        """The median."""
        return self.quantile(0.50)

    @property
    def p99(self) -> float:
        """What one round in a hundred exceeded."""
        return self.quantile(0.99)


@dataclass(frozen=True)
class Verdict:
    """A goal, what was reached and what it allows, both in seconds."""

    goal: str
    reached: float
    allowed: float

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.reached <= self.allowed


def interleaved(contestants: Mapping[str, Contestant], rounds: int, *, warm: int = 2) -> dict[str, Times]:
    """Every contestant once a round, each round begun by the next of them. The first rounds are not counted."""
    names, seconds = list(contestants), {name: list[float]() for name in contestants}
    for number in range(-warm, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            took = timed(contestants[name])
            if number >= 0:
                seconds[name].append(took)
    return {name: Times(tuple(sorted(took))) for name, took in seconds.items()}


def timed(contestant: Contestant) -> float:
    """How long it takes, in seconds."""
    began = time.perf_counter()
    said = contestant()
    return time.perf_counter() - began if said is None else said


def tell(number: int, work: str, times: Mapping[str, Times], verdicts: Sequence[Verdict]) -> None:
    """Print a row of the goals: who took how long, how many times as long as we that is, and what is met."""
    rounds = max(len(each.seconds) for each in times.values())
    print(f"\n{number:>2}  {work} ({rounds} rounds)")
    print(f"    {'':40} {'p50':>11} {'p99':>11} {'sandbar is':>12}")
    for name, each in times.items():
        ratio = "" if name == OURS else f"{times[OURS].p50 / each.p50:.2f} of it"
        print(f"    {name:40} {_shown(each.p50):>11} {_shown(each.p99):>11} {ratio:>12}")
    for verdict in verdicts:
        word = "met" if verdict.met else "MISSED"
        print(f"    goal: {verdict.goal}: {_shown(verdict.reached)} of {_shown(verdict.allowed)}: {word}", flush=True)


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 10 else f"{seconds * 1000:.2f} ms"
