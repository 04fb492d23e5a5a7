"""Which row of a dialect's table a request is for."""

import pytest

from chalicelib.core.errors import NotFound, Unsupported
from chalicelib.dialect import Matcher, Reply, Route


def _row(method: str, path: str) -> Route:
    return Route(method, path, lambda *_: Reply(200))


MATCHER = Matcher(
    [
        _row("GET", "/box"),
        _row("GET", "/box/{id}"),
        _row("GET", "/box/all"),
        _row("GET", "/box/{id}/{verb}"),
        _row("POST", "/box/{other}/stop"),
        _row("GET", "/box/all/{rest}"),
        _row("DELETE", "/box/{later}"),
        _row("DELETE", "/box/{latest}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "row", "slots"),
    [
        ("GET", "/box", "/box", {}),
        ("GET", "/box/", "/box", {}),
        ("GET", "/box/all", "/box/all", {}),
        ("GET", "/box/a%2Fb%20c", "/box/{id}", {"id": "a/b c"}),
        ("GET", "/box/a/stop", "/box/{id}/{verb}", {"id": "a", "verb": "stop"}),
        ("POST", "/box/a/stop", "/box/{other}/stop", {"other": "a"}),
        ("GET", "/box/all/stop", "/box/all/{rest}", {"rest": "stop"}),
        ("POST", "/box/all/stop", "/box/{other}/stop", {"other": "all"}),
        ("DELETE", "/box/a", "/box/{later}", {"later": "a"}),
    ],
)
def test_the_most_literal_row_and_then_the_first_is_found(
    method: str, path: str, row: str, slots: dict[str, str]
) -> None:
    route, found = MATCHER.match(method, path)

    assert (route.path, found) == (row, slots)


@pytest.mark.parametrize("path", ["/", "/bo", "/box//stop", "/box/a/b/c", "/%62ox"])
def test_what_no_row_has_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        MATCHER.match("GET", path)


def test_a_wrong_method_is_told_the_right_ones() -> None:
    with pytest.raises(Unsupported, match="it takes DELETE, GET"):
        MATCHER.match("PUT", "/box/all")
