"""Code in a language. matplotlib is the sandbox's, not ours; a small stand-in shows that charts reach the answer."""

from pathlib import Path

import pytest

from tests.agent.running import Client


def test_python_code_is_main(client: Client) -> None:
    code = "import sys\nif __name__ == '__main__':\n    print(sys.argv[1:], 'ü')\n    sys.exit(4)"

    done = client.post("/code", {"code": code, "argv": ["a b", "c"]}).json

    assert (done["exit_code"], done["stdout"]) == (4, "['a b', 'c'] ü\n")
    assert done["artifacts"] == {"charts": []}


def test_an_error_shows_the_codes_own_lines(client: Client) -> None:
    done = client.post("/code", {"code": "def f():\n    1 / 0\nf()"}).json

    assert done["exit_code"] == 1
    assert "    1 / 0" in done["stderr"]
    assert done["stderr"].startswith('Traceback (most recent call last):\n  File "<code>", line 3')


def test_a_syntax_error_is_the_codes_too(client: Client) -> None:
    done = client.post("/code", {"code": "print('open"}).json

    assert done["exit_code"] == 1
    assert done["stderr"].endswith("(detected at line 1)\n")


def test_a_megabyte_of_code_runs(client: Client) -> None:
    done = client.post("/code", {"code": f"x = '{'y' * 1_000_000}'\nprint(len(x))"}).json

    assert done["stdout"] == "1000000\n"


def test_time_environment_and_folder_apply(client: Client, home: Path) -> None:
    code = "import os, time; print(os.environ['A'], os.getcwd(), flush=True); time.sleep(100)"

    done = client.post("/code", {"code": code, "env": {"A": "1"}, "cwd": str(home), "timeout_seconds": 1})

    assert (done.status, done.json["stdout"]) == (408, f"1 {home}\n")


FAKE_FIGURE = """
class Figure:
    axes = []
    def get_suptitle(self): return 'Two'
    def savefig(self, file, **_): file.write(b'png')
def get_fignums(): return [1]
def figure(number): return Figure()
def close(which): print('closed', which)
def show(): raise AssertionError
"""


def test_what_is_shown_comes_back_as_charts(client: Client, home: Path) -> None:
    (home / "matplotlib").mkdir()
    (home / "matplotlib/__init__.py").touch()
    (home / "matplotlib/pyplot.py").write_text(FAKE_FIGURE)

    done = client.post("/code", {"code": "import matplotlib.pyplot as plt\nplt.show()", "cwd": str(home)}).json

    assert (done["exit_code"], done["stdout"]) == (0, "closed all\n"), done
    assert done["artifacts"]["charts"] == [{"type": "composite_chart", "title": "Two", "elements": [], "png": "cG5n"}]


@pytest.mark.parametrize(
    ("language", "interpreter", "does"),
    [
        ("javascript", "node", 'while [ "$1" != - ]; do shift; done; shift; echo "$@"; cat'),
        ("typescript", "ts-node", 'while [ "$1" != -e ]; do shift; done; echo "$4"; printf %s "$2"'),
    ],
)
def test_other_languages_are_run_by_their_interpreter(
    client: Client, home: Path, language: str, interpreter: str, does: str
) -> None:
    script = home / interpreter
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    env = {"PATH": f"{home}:/usr/bin:/bin"}

    done = client.post("/code", {"code": "let x: number = 1", "language": language, "argv": ["a"], "env": env}).json

    assert done["stdout"] == "a\nlet x: number = 1"
