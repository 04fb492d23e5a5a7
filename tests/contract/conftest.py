"""The installation that all contract tests share."""

from collections.abc import Iterator

import pytest

from tests.stack import Stack, running_stack

collect_ignore_glob = ["*/scenarios"]  # run by each SDK's own Python


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running installation."""
    with running_stack() as stack:
        yield stack
