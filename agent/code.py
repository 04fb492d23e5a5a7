"""`POST /code`: a piece of code in a language, run to its end, with the charts it showed."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from agent import shapes
from agent.errors import Refusal
from agent.machine import Machine
from agent.processes import Outcome, finished, run
from agent.web import Reply, Request, answer

MOST_CHARTS_BYTES = 32 * 1024 * 1024
CODE = {
    "code": (shapes.text, shapes.REQUIRED),
    "language": (shapes.one_of("python", "javascript", "typescript"), "python"),
    "argv": (shapes.list_of(shapes.text), []),
    "env": (shapes.variables, {}),
    "timeout_seconds": (shapes.seconds, None),
    "cwd": (shapes.word, None),
}


async def execute(machine: Machine, request: Request) -> Reply:
    asked = await request.json(CODE)
    environment = machine.environment({"MPLBACKEND": "Agg", **asked.env})
    how = {"cwd": machine.folder(asked.cwd), "env": environment, "timeout": asked.timeout_seconds}
    code = os.fsencode(asked.code)
    if asked.language == "python":
        outcome, charts = await request.while_there(_python(machine, code, asked.argv, how))
    else:
        argv, stdin = _script(asked.language, code or b"\n", environment["PATH"])
        outcome, charts = await request.while_there(run(machine, [*argv, *asked.argv], stdin=stdin, **how)), []
    return answer({**finished(outcome, asked.timeout_seconds), "artifacts": {"charts": charts}})


def _script(language: str, code: bytes, path: str) -> tuple[list[str], bytes]:
    """What runs a script, up to the script's own arguments, and what it reads: the script, but for ts-node.

    That one takes '-' for the name of a file wherever arguments follow, so it is given the script as an argument.
    """
    if language == "javascript":
        return ["node", "-"], code
    if shutil.which("ts-node", path=path):
        options = ["--transpile-only", "--compiler-options", '{"module":"commonjs"}']
        return ["ts-node", *options, "-e", os.fsdecode(code), "code.ts"], b""
    return ["node", "--experimental-strip-types", "--no-warnings", "--input-type=commonjs-typescript", "-"], code


async def _python(
    machine: Machine, code: bytes, arguments: Sequence[str], how: dict[str, Any]
) -> tuple[Outcome, list[Any]]:
    """Code and charts pass through memory that only this process inherits: neither has a limit or leaves a file."""
    with closing(_Memory("code")) as source, closing(_Memory("charts")) as charts:
        source.write(code)
        text = f"{_runner()}\nmain({source.file}, {charts.file})\n"
        program = "python3" if shutil.which("python3", path=how["env"]["PATH"]) else "python"
        argv = [program, "-u", "-c", text, *arguments]
        outcome = await run(machine, argv, pass_fds=(source.file, charts.file), **how)
        return outcome, _parsed(charts.read(MOST_CHARTS_BYTES))


@cache
def _runner() -> str:
    return Path(__file__).with_name("charts.py").read_text()


def _parsed(lines: bytes) -> list[Any]:
    """The charts; the code may have written anything there, so what is no JSON object is left out."""
    charts = []
    for line in lines.splitlines():
        try:
            chart = json.loads(line)
        except ValueError:
            continue
        charts += [chart] if isinstance(chart, dict) else []
    return charts


class _Memory:
    """A file that has no name and is gone when it is closed."""

    def __init__(self, name: str) -> None:
        self.file = os.memfd_create(name)

    def write(self, content: bytes) -> None:
        with open(self.file, "wb", closefd=False) as file:
            file.write(content)

    def read(self, most: int) -> bytes:
        size = os.fstat(self.file).st_size
        if size > most:
            raise Refusal("too_large", f"The charts that were shown have {size} bytes, more than {most}.")
        return os.pread(self.file, size, 0)

    def close(self) -> None:
        os.close(self.file)
