"""`/checkpoints`: saving what changed and telling the control plane how it went."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import zstandard

from agent import shapes
from agent.checkpoint.archive import Archive
from agent.checkpoint.changes import APART, Survey, mounts
from agent.checkpoint.parts import Parts, Refused
from agent.control import Control, Unreachable
from agent.errors import Refusal
from agent.machine import Machine
from agent.web import Reply, Request, answer

MANIFEST = "opt/sandbar/image.manifest"
LEVEL = 1
QUIESCE_GRACE = 2.0
MORE = 50

SAVE = {
    "id": (shapes.identifier, shapes.REQUIRED),
    "quiesce": (shapes.flag, False),
    "part_bytes": (shapes.whole(1024, 1 << 30), shapes.REQUIRED),
    "part_urls": (shapes.list_of(shapes.word), shapes.REQUIRED),
    "task_token": (shapes.text, None),
}

log = logging.getLogger(__name__)


@dataclass
class Saving:
    """A checkpoint being saved, or one that was."""

    machine: Machine
    id: str
    part_bytes: int
    part_urls: dict[int, str]
    task_token: str | None
    state: str = "saving"
    error: str | None = None
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        self.parts = Parts(self.part_bytes, self._url, self.machine.settings.control)

    def document(self) -> dict[str, Any]:
        return {"id": self.id, "state": self.state, "bytes": self.parts.total, "error": self.error}

    @property
    def _control(self) -> Control:
        return Control(self.machine.settings.control)

    def save(self) -> None:
        """Walk, pack, upload, report. Blocking; never raises: what goes wrong is in `error`, and reported."""
        began, count, digest = time.monotonic(), 0, ""
        try:
            count, digest = self._packed()
        except Exception as problem:  # whatever it is, the workflow waits for the report
            log.exception("saving failed", extra={"checkpoint": self.id})
            self.error = f"The checkpoint could not be saved: {problem}"
        finally:
            self.parts.close()
        log.info("saved %d entries, %d bytes in %.2f s", count, self.parts.total, time.monotonic() - began)
        # Before the report, since whoever is told may ask us at once.
        self.state = "failed" if self.error else "saved"
        self._report(count, digest)
        self.state = "failed" if self.error else "saved"

    def _packed(self) -> tuple[int, str]:
        root = self.machine.root.rstrip("/")
        survey = Survey(root, self.machine.born_ns, _manifest(root), APART | mounts(root or "/"))
        packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        archive = Archive(root, lambda chunk: self.parts.write(packer.compress(chunk)))
        archive.save(survey)
        self.parts.write(packer.flush())
        for path in survey.unreadable:
            log.warning("left out, since it cannot be read: %r", path)
        return archive.count, self.parts.finish()

    def _report(self, count: int, digest: str) -> None:
        said = {
            "sandbox": self.machine.settings.sandbox,
            "checkpoint": self.id,
            "task_token": self.task_token,
            "parts": [part.document() for part in self.parts.sent],
            "size": self.parts.total,
            "sha256": digest,
            "files": count,
            "error": self.error,
        }
        try:
            status, _ = self._control.post("/agent/saved", self.machine.token, said)
        except Unreachable as problem:
            self.error = f"The control plane could not be told: {problem}"
            return
        if status != 200:
            self.error = f"The control plane answered {status} to the checkpoint."

    def _url(self, number: int, fresh: bool) -> str:
        """The part's address; the control plane is asked for more where we have none or need a new one."""
        if fresh or number not in self.part_urls:
            wanted = {"sandbox": self.machine.settings.sandbox, "checkpoint": self.id, "from": number, "count": MORE}
            status, more = self._control.post("/agent/parts", self.machine.token, wanted)
            urls = more.get("part_urls")
            if status != 200 or not isinstance(urls, list) or not urls:
                raise Refused(f"The control plane answered {status} to the request for more parts.")
            self.part_urls |= {number + index: str(url) for index, url in enumerate(urls)}
        return self.part_urls[number]


def _manifest(root: str) -> set[str]:
    """The image's lines; none where the image has no manifest, so that everything counts as changed."""
    try:
        with open(f"{root}/{MANIFEST}", "rb") as file:
            text = zstandard.ZstdDecompressor().stream_reader(file).read()
    except FileNotFoundError:
        return set()
    return set(text.decode("ascii").splitlines())


async def save(machine: Machine, request: Request) -> Reply:
    asked = await request.json(SAVE)
    if running := [saving.id for saving in machine.checkpoints.values() if saving.state == "saving"]:
        raise Refusal("conflict", f"Checkpoint {running[0]} is still being saved.")
    if asked.id in machine.checkpoints:
        raise Refusal("conflict", f"There is a checkpoint {asked.id} already.")
    urls = dict(enumerate(asked.part_urls, 1))
    saving = Saving(machine, asked.id, asked.part_bytes, urls, asked.task_token)
    machine.checkpoints[asked.id] = saving
    machine.errands.add(asyncio.create_task(_saved(saving, quiesce=asked.quiesce)))
    return answer(saving.document(), 202)


async def _saved(saving: Saving, *, quiesce: bool) -> None:
    machine = saving.machine
    if quiesce:
        machine.quiet = True
        await machine.children.end_all(QUIESCE_GRACE)
    try:
        await asyncio.to_thread(saving.save)
    finally:
        # A sandbox that could not be saved goes on; one that was saved starts nothing that would be lost.
        machine.quiet = machine.quiet and saving.state == "saved"


async def show(machine: Machine, request: Request) -> Reply:
    id = request.words["id"]
    if id not in machine.checkpoints:
        raise Refusal("not_found", f"There is no checkpoint {id[:100]!a}.")
    return answer(machine.checkpoints[id].document())
