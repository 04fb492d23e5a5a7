"""Commands and code in a sandbox."""

import time
from typing import Any

import pytest
from sdk import NEWEST, DaytonaError, daytona


@pytest.mark.proves("executeCommand")
async def test_a_command_tells_its_output_and_exit_code(sandbox: Any) -> None:
    done = await sandbox.process.exec("echo out; echo err >&2; exit 3")

    assert done.exit_code == 3
    assert done.result.splitlines() == ["out", "err"]


async def test_a_command_runs_where_and_with_what_it_was_told(sandbox: Any, folder: str) -> None:
    done = await sandbox.process.exec('pwd; echo "$COLOUR $SIZE"', cwd=folder, env={"SIZE": 'it\'s "big"'})

    assert done.result.splitlines() == [folder, 'teal it\'s "big"']


async def test_quotes_newlines_and_other_scripts_arrive_as_they_are(sandbox: Any) -> None:
    text = "'single' \"double\" $HOME \\ back\ttab ünïcödé 漢字"

    done = await sandbox.process.exec(f"cat <<'EOF'\n{text}\nEOF")

    assert done.result == text + "\n"


async def test_a_command_that_is_not_there_is_127(sandbox: Any) -> None:
    assert (await sandbox.process.exec("no-such-command")).exit_code == 127


async def test_a_command_ends_with_its_timeout_and_takes_its_children_along(sandbox: Any) -> None:
    began = time.monotonic()
    with pytest.raises(daytona.DaytonaTimeoutError if NEWEST else DaytonaError, match="command execution timeout"):
        await sandbox.process.exec("sleep 3133 & sleep 3133", timeout=1)

    assert time.monotonic() - began < 5
    assert (await sandbox.process.exec("pgrep -f '[s]leep 3133'")).result == ""


@pytest.mark.proves("executeCommand", "codeRun")
async def test_code_runs_and_tells_what_it_printed(sandbox: Any) -> None:
    done = await sandbox.process.code_run("import sys\nprint(6 * 7)\nsys.exit(4)")

    assert (done.exit_code, done.result) == (4, "42\n")


async def test_code_that_fails_tells_its_traceback(sandbox: Any) -> None:
    done = await sandbox.process.code_run("raise ValueError('what was wrong')")

    assert done.exit_code == 1
    assert "ValueError: what was wrong" in done.result


async def test_code_gets_its_arguments_and_environment(sandbox: Any) -> None:
    params = daytona.CodeRunParams(argv=["one", "two"], env={"SHAPE": "round"})

    done = await sandbox.process.code_run("import os, sys; print(sys.argv[1:], os.environ['SHAPE'])", params=params)

    assert done.result == "['one', 'two'] round\n"


@pytest.mark.proves("codeRun")
async def test_a_chart_that_code_draws_comes_back_as_data(sandbox: Any) -> None:
    draw = "plt.plot([1, 2], [3, 4], label='rise'); plt.title('Growth'); plt.show()"

    done = await sandbox.process.code_run(f"import matplotlib.pyplot as plt\n{draw}\nprint('drawn')")

    assert done.result.strip() == "drawn"
    (chart,) = done.artifacts.charts
    assert (chart.title, chart.type) == ("Growth", "line")
    assert chart.png


@pytest.mark.parametrize("language", ["javascript", "typescript"])
async def test_other_languages_run_too(client: Any, language: str) -> None:
    sandbox = await client.create(daytona.CreateSandboxFromSnapshotParams(language=language))

    done = await sandbox.process.code_run("const n = [1, 2, 3].map((x) => x * 2); console.log(n.join('-'))")

    assert (done.exit_code, done.result.strip()) == (0, "2-4-6")
    await client.delete(sandbox)
