"""How much of what counts against a quota."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Amounts:
    """So many sandboxes, virtual CPUs, MiB of memory, GiB of disk. CPUs come in quarters, so that sums stay exact."""

    sandboxes: int = 0
    cpu: float = 0
    memory_mib: int = 0
    disk_gib: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.sandboxes + other.sandboxes,
            self.cpu + other.cpu,
            self.memory_mib + other.memory_mib,
            self.disk_gib + other.disk_gib,
        )

    def __sub__(self, other: "Amounts") -> "Amounts":
        return self + other * -1

    def __mul__(self, times: int) -> "Amounts":
        return Amounts(self.sandboxes * times, self.cpu * times, self.memory_mib * times, self.disk_gib * times)

    def told(self) -> tuple[int, float, int, int]:
        """All four, in their order."""
        return self.sandboxes, self.cpu, self.memory_mib, self.disk_gib


NOTHING = Amounts()
KINDS = tuple(field.name for field in fields(Amounts))
