"""Daytona's control plane, request in and reply out, on the world in memory."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib import gateway
from chalicelib.core import access, quotas
from chalicelib.core.states import State
from chalicelib.core.world import World
from chalicelib.dialect import Request
from chalicelib.dialects.daytona import listing
from tests import examples
from tests.playing import House

KEY, STRANGERS, NEWEST = "the-administrators-key", "another-organizations-key", {"x-daytona-sdk-version": "0.226.1"}
NOBODYS = "00000000-0000-7000-8000-000000000000"


class Moving:
    """A clock that lets the workflows run whenever somebody waits."""

    def __init__(self, house: House) -> None:
        self._house = house

    def now(self) -> datetime:
        return self._house.clock.now()

    def sleep(self, seconds: float) -> None:
        self._house.clock.sleep(seconds)
        self._house.play()


class Api:
    """Asks what a client would ask."""

    def __init__(self) -> None:
        self.house = House()
        self.world: World = replace(self.house.world, clock=Moving(self.house))
        access.admit_admin(self.world, KEY, owner="org-1", user="ada")
        access.admit_admin(self.world, STRANGERS, owner="org-2", user="eve")

    def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        known = {"authorization": f"Bearer {key}"} if key else {}
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        reply = gateway.answer(self.world, "daytona", Request(method, path, query, {**known, **(headers or {})}, raw))
        return reply.status, json.loads(reply.body) if reply.body else None

    def made(self, **fields: Any) -> Any:
        status, sandbox = self("POST", "/sandbox", fields)
        assert (status, sandbox.get("state")) == (200, "started"), sandbox
        return sandbox


@pytest.fixture
def api() -> Api:
    return Api()


def test_a_new_sandbox_is_answered_started_with_what_it_was_given(api: Api) -> None:
    made = api.made(
        name="box", cpu=2, memory=1, disk=5, env={"A": "1"}, labels={"l": "v"}, public=True, target="eu",
        autoStopInterval=5, autoArchiveInterval=6, autoDeleteInterval=7, ttlMinutes=60, **{"class": "small"},
    )  # fmt: skip

    assert (made["cpu"], made["memory"], made["disk"]) == (2, 4, 5)
    assert (made["name"], made["env"], made["labels"], made["public"]) == ("box", {"A": "1"}, {"l": "v"}, True)
    assert (made["autoStopInterval"], made["autoArchiveInterval"], made["autoDeleteInterval"]) == (5, 6, 7)
    assert (made["target"], made["class"], made["user"], made["snapshot"]) == ("eu", "small", "daytona", "default")
    assert made["autoDestroyAt"].startswith("2026-11-22T13:00:00")


def test_a_sandbox_whose_machine_is_slow_is_answered_creating_within_the_time_that_the_front_allows(api: Api) -> None:
    api.house.agents_are_mute = True
    began = api.house.clock.now()

    status, made = api("POST", "/sandbox", {})

    assert (status, made["state"], made["desiredState"]) == (200, "creating", "started")
    assert api.house.clock.now() - began < timedelta(seconds=26)


def test_a_sandbox_that_no_machine_can_be_had_for_is_told_failed_with_the_reason(api: Api) -> None:
    api.house.ecs_refuses = True

    _, made = api("POST", "/sandbox", {})

    assert made["state"] == "error"
    assert "no such task definition" in made["errorReason"]


def test_a_sandbox_is_found_by_id_and_by_name(api: Api) -> None:
    made = api.made(name="box")

    assert api("GET", "/sandbox/box")[1]["id"] == made["id"]
    assert api("GET", f"/sandbox/{made['id']}?verbose=true")[1]["name"] == "box"


def test_a_create_is_repeated_under_its_idempotency_key(api: Api) -> None:
    key = {"idempotency-key": "2b8ee0"}

    made = [api("POST", "/sandbox", {"ttlMinutes": 5}, headers=key) for _ in range(2)]
    status, error = api("POST", "/sandbox", {"public": True}, headers=key)

    assert made[0][1]["id"] == made[1][1]["id"]
    assert (status, "another key" in error["message"]) == (409, True)


def test_what_is_beyond_the_quota_is_forbidden_with_the_numbers(api: Api) -> None:
    quotas.change(api.world, "org-1", {"cpu": 1})
    api.made()

    status, error = api("POST", "/sandbox", {})

    assert (status, error["error"]) == (403, "Forbidden")
    assert "1 more cpu asked for, 1 of 1 in use" in error["message"]


def test_a_name_that_is_taken_is_a_conflict(api: Api) -> None:
    api.made(name="box")

    status, error = api("POST", "/sandbox", {"name": "box"})

    assert (status, error["error"]) == (409, "Conflict")
    assert "box" in error["message"]


def test_a_stop_and_a_start_are_answered_when_they_are_done(api: Api) -> None:
    id = api.made()["id"]

    assert api("POST", f"/sandbox/{id}/stop?force=false")[1]["state"] == "stopped"
    assert api("POST", f"/sandbox/{id}/start")[1]["state"] == "started"


def test_an_action_that_the_state_does_not_allow_names_the_state(api: Api) -> None:
    id = api.made()["id"]

    status, error = api("POST", f"/sandbox/{id}/start")

    assert status == 409
    assert "started" in error["message"]


def test_a_deleted_sandbox_is_destroying_then_for_a_moment_destroyed_then_not_found(api: Api) -> None:
    id = api.made()["id"]

    asked = api("DELETE", f"/sandbox/{id}?force=true")
    again = api("GET", f"/sandbox/{id}")
    api.house.play()
    after = api("GET", f"/sandbox/{id}")
    api.house.clock.turn(timedelta(seconds=3))

    assert (asked[0], asked[1]["state"], again[1]["state"], after[1]["state"]) == (
        200,
        "destroying",
        "destroying",
        "destroyed",
    )
    assert api("GET", f"/sandbox/{id}")[0] == 404
    assert api("DELETE", f"/sandbox/{id}")[0] == 404
    assert api("POST", f"/sandbox/{id}/start")[0] == 404


def test_a_failed_sandbox_is_recovered_where_its_disk_was_saved(api: Api) -> None:
    id = api.made()["id"]
    api("POST", f"/sandbox/{id}/stop")
    sandbox = api.house.sandboxes.get("org-1", id)
    api.house.sandboxes.put(replace(sandbox, state=State.FAILED, reason="it died"))

    shown = api("GET", f"/sandbox/{id}")[1]
    status, recovered = api("POST", f"/sandbox/{id}/recover")

    assert (shown["state"], shown["errorReason"], shown["recoverable"]) == ("error", "it died", True)
    assert (status, recovered["state"]) == (200, "started")


@pytest.mark.parametrize("call", ["GET {}", "DELETE {}", "POST {}/stop", "PUT {}/labels", "GET {}/toolbox-proxy-url"])
def test_another_organizations_sandbox_is_not_found(api: Api, call: str) -> None:
    method, path = call.format(f"/sandbox/{api.made()['id']}").split()

    theirs = api(method, path, {"labels": {}} if method == "PUT" else None, key=STRANGERS)
    nobodys = api(method, f"/sandbox/{NOBODYS}{path[45:]}", {"labels": {}} if method == "PUT" else None)

    assert theirs[0] == nobodys[0] == 404
    assert "not found" in theirs[1]["message"]


def test_labels_intervals_and_publicity_are_changed(api: Api) -> None:
    at = f"/sandbox/{api.made(labels={'old': '1'})['id']}"

    assert api("PUT", f"{at}/labels", {"labels": {"a": "true"}}) == (200, {"labels": {"a": "true"}})
    assert api("POST", f"{at}/autostop/30")[1]["autoStopInterval"] == 30
    assert api("POST", f"{at}/autoarchive/0")[1]["autoArchiveInterval"] == 43200
    assert api("POST", f"{at}/autodelete/-1")[1]["autoDeleteInterval"] == -1
    assert api("POST", f"{at}/ttl/10")[1]["autoDestroyAt"]
    assert "autoDestroyAt" not in api("POST", f"{at}/ttl/0")[1]
    assert api("POST", f"{at}/public/true")[1]["public"] is True
    assert api("GET", at)[1]["labels"] == {"a": "true"}


@pytest.mark.parametrize(
    "path", ["autostop/-1", "autostop/soon", "autostop/1.5", "autostop/1e400", "public/yes", "ttl/NaN"]
)
def test_a_slot_that_is_wrong_is_refused(api: Api, path: str) -> None:
    status, error = api("POST", f"/sandbox/{api.made()['id']}/{path}")

    assert status == 400
    assert "must be" in error["message"]


def test_activity_is_noted(api: Api) -> None:
    id = api.made()["id"]
    api.house.clock.turn(timedelta(minutes=3))

    assert api("POST", f"/sandbox/{id}/last-activity") == (201, None)
    assert api("GET", f"/sandbox/{id}")[1]["lastActivityAt"].startswith("2026-11-22T12:03")


def test_the_list_is_an_array_for_the_old_and_pages_for_the_new(api: Api) -> None:
    ids = [api.made(labels={"n": str(n)})["id"] for n in range(3)]

    old = api("GET", "/sandbox")[1]
    first = api("GET", "/sandbox?limit=2", headers=NEWEST)[1]
    second = api("GET", f"/sandbox?limit=2&cursor={first['nextCursor']}", headers=NEWEST)[1]

    assert [s["id"] for s in old] == ids[::-1]
    assert [s["id"] for s in first["items"] + second["items"]] == ids[::-1]
    assert second["nextCursor"] is None
    assert "env" in old[0]
    assert "env" not in first["items"][0]


def test_whoever_speaks_of_pages_gets_one_without_naming_a_version(api: Api) -> None:
    assert api("GET", "/sandbox?limit=2")[1] == {"items": [], "nextCursor": None}


def test_pages_have_numbers_and_a_total(api: Api) -> None:
    ids = [api.made(labels={"l": "v"})["id"] for _ in range(5)]
    api.made()

    pages = [api("GET", f'/sandbox/paginated?page={n}&limit=2&labels={{"l":"v"}}')[1] for n in (1, 2, 3, 4)]

    assert [[s["id"] for s in page["items"]] for page in pages] == [
        ids[4:2:-1],
        ids[2:0:-1],
        [ids[0]],
        [],
    ]
    assert {(page["total"], page["totalPages"]) for page in pages} == {(5, 3)}


def test_a_page_without_labels_shows_all(api: Api) -> None:
    api.made()

    assert api("GET", "/sandbox/paginated?page=1&limit=10&labels=null")[1]["total"] == 1


def test_a_list_is_filtered_by_state_and_name(api: Api) -> None:
    api.made(name="alpha")
    api("POST", f"/sandbox/{api.made(name='beta')['id']}/stop")

    def names(query: str) -> list[str]:
        return [s["name"] for s in api("GET", f"/sandbox?{query}", headers=NEWEST)[1]["items"]]

    assert names("states=started") == ["alpha"]
    assert sorted(names("states=started&states=stopped&sort=createdAt&order=desc")) == ["alpha", "beta"]
    assert names("states=build_failed&name=a") == ["alpha"]
    assert names("name=be") == ["beta"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "states=asleep",
        "sort=name",
        "isPublic=true",
        "labels={",
        "cursor=x",
        "what=1",
    ],
)
def test_a_wrong_filter_is_refused(api: Api, query: str) -> None:
    assert api("GET", f"/sandbox?{query}", headers=NEWEST)[0] == 400


def test_a_page_that_lies_too_far_and_an_array_that_is_too_long_are_refused(api: Api) -> None:
    for _ in range(listing.MOST_IN_AN_ARRAY + 1):
        api.house.sandboxes.add(examples.sandbox())

    assert api("GET", "/sandbox/paginated?page=101&limit=100")[0] == 429
    assert api("GET", "/sandbox")[0] == 429


def test_workspaces_are_sandboxes_under_their_old_name(api: Api) -> None:
    status, made = api("POST", "/workspace", {"image": "default", "labels": {"l": "v"}, "target": "eu"})
    at = f"/workspace/{made['id']}"

    assert (status, made["state"], made["image"], made["snapshotState"]) == (200, "started", "default", "None")
    assert [w["id"] for w in api("GET", "/workspace")[1]] == [made["id"]]
    assert api("GET", at)[1]["image"] == "default"
    assert api("PUT", f"{at}/labels", {"labels": {}})[0] == 200
    assert api("POST", f"{at}/stop")[1]["state"] == "stopped"
    assert api("POST", f"{at}/start")[1]["state"] == "started"
    assert api("DELETE", f"{at}?force=true")[0] == 200


def test_the_toolbox_is_where_the_old_and_the_new_look_for_it(api: Api) -> None:
    id = api.made()["id"]

    preview = api("GET", f"/sandbox/{id}/ports/2280/preview-url")[1]
    proxy = api("GET", f"/sandbox/{id}/toolbox-proxy-url")[1]

    assert preview["url"] == f"http://127.0.0.1:8080/daytona/toolbox/{id}/toolbox"
    assert preview["token"]
    assert proxy == {"url": "http://127.0.0.1:8080/daytona/toolbox"}
    assert api("GET", f"/sandbox/{id}/ports/3000/preview-url")[0] == 400
    assert api("GET", f"/sandbox/{id}/ports/0/preview-url")[0] == 400


def test_a_key_is_made_shown_masked_used_and_removed(api: Api) -> None:
    asked = {"name": "ci", "permissions": ["write:sandboxes", "read:volumes"], "expiresAt": "2027-01-01T00:00:00Z"}

    status, made = api("POST", "/api-keys", asked)
    current = api("GET", "/api-keys/current", key=made["value"])[1]
    listed = api("GET", "/api-keys")[1]

    assert (status, made["permissions"]) == (201, ["write:sandboxes", "read:volumes"])
    assert (current["name"], current["userId"], current["expiresAt"]) == ("ci", "ada", "2027-01-01T00:00:00.000Z")
    assert current["value"] == "*" * 20 + made["value"][-4:]
    assert "ci" in [key["name"] for key in listed]
    assert api("GET", "/api-keys/ci")[1]["lastUsedAt"]
    assert api("DELETE", "/api-keys/ci") == (204, None)
    assert api("GET", "/api-keys/current", key=made["value"])[0] == 401


def test_a_key_does_no_more_than_it_permits(api: Api) -> None:
    key = api("POST", "/api-keys", {"name": "reader", "permissions": []})[1]["value"]
    id = api.made()["id"]

    assert api("GET", f"/sandbox/{id}", key=key)[0] == 200
    assert api("POST", "/sandbox", {}, key=key)[0] == 403
    assert api("DELETE", f"/sandbox/{id}", key=key)[0] == 403
    assert api("POST", "/api-keys", {"name": "more", "permissions": []}, key=key)[0] == 403


def test_another_users_key_is_removed_by_naming_the_user(api: Api) -> None:
    api("POST", "/api-keys", {"name": "ci", "permissions": []})

    assert api("DELETE", "/api-keys/bob/ci")[0] == 404
    assert api("DELETE", "/api-keys/ada/ci")[0] == 204
    assert api("DELETE", "/api-keys/ada/ci")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "k"}, {"permissions": []}, {"name": "", "permissions": []}, {"name": "k", "permissions": "all"},
        {"name": "k", "permissions": ["write:everything"]}, {"name": "k", "permissions": [], "expiresAt": "tomorrow"},
        {"name": "k", "permissions": [], "expiresAt": "2027-01-01T00:00:00"},
        {"name": "k", "permissions": [], "expiresAt": "2020-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_a_key_that_is_wrong_is_refused(api: Api, body: Any) -> None:
    assert api("POST", "/api-keys", body)[0] == 400


def test_config_and_health_are_told_to_anybody(api: Api) -> None:
    status, config = api("GET", "/config", key=None)

    assert status == 200
    assert config["proxyToolboxUrl"] == "http://127.0.0.1:8080/daytona/toolbox"
    assert {"version", "oidc", "defaultSnapshot", "maintananceMode", "maxAutoArchiveInterval"} <= set(config)
    assert api("GET", "/health", key=None)[1]["status"] == "ok"


@pytest.mark.parametrize("key", [None, "", "wrong", "\x00", "ünï"])
def test_nobody_else_is_told_anything(api: Api, key: str | None) -> None:
    status, error = api("GET", "/sandbox", key=key)

    assert (status, error["error"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 200_000, b'{"env": {"A": "\\ud800"}}', b'{"cpu": 1e999}'],
)
def test_a_body_that_is_no_sandbox_is_refused(api: Api, body: bytes) -> None:
    status, error = api("POST", "/sandbox", body)

    assert (status, error["statusCode"], error["path"]) == (400, 400, "/daytona/sandbox")


def test_a_body_beyond_the_limit_is_refused(api: Api) -> None:
    assert api("POST", "/sandbox", b'{"name": "' + b"n" * 2_000_000 + b'"}')[0] == 413


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PATCH", "/sandbox"), ("GET", "//")])
def test_what_is_not_there_is_told_in_daytonas_shape(api: Api, method: str, path: str) -> None:
    status, error = api(method, path)

    assert status in (400, 404)
    assert {"statusCode", "timestamp", "path", "error", "message"} == set(error)


def test_the_toolbox_is_not_served_here(api: Api) -> None:
    status, error = api("GET", f"/toolbox/{api.made()['id']}/toolbox/work-dir")

    assert status == 400
    assert "is served by http://127.0.0.1:8080" in error["message"]
    assert error["source"] == "DAYTONA_DAEMON"
