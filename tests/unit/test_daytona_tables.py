"""Daytona's tables: that they are complete, that no two rows collide, and how they read and write values."""

import base64
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.core import access, errors
from chalicelib.core.errors import Invalid, Refused, Unsupported
from chalicelib.core.sandbox import Checkpoint, Machine, Network, Policy, Sandbox, Size
from chalicelib.core.states import State
from chalicelib.dialect import Call, Close, Relay, Request, Socket, parse, parse_query, render
from chalicelib.dialects.daytona import DIALECT
from chalicelib.dialects.daytona.changing import LABELS_IN
from chalicelib.dialects.daytona.clients import release, takes_json_logs
from chalicelib.dialects.daytona.creating import NEW, NEW_WORKSPACE
from chalicelib.dialects.daytona.fields import flag
from chalicelib.dialects.daytona.listing import ARRAY_OR_CURSOR, NUMBERED
from chalicelib.dialects.daytona.shapes import LISTED, SANDBOX
from chalicelib.dialects.daytona.toolbox.files import download
from chalicelib.dialects.daytona.toolbox.processes import EXECUTE
from chalicelib.dialects.daytona.toolbox.sessions import Followed, logs
from chalicelib.dialects.daytona.words import DESIRED, PERMISSIONS, STATES, permissions_told, states_meant
from tests.contract import coverage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ID = "019aa000-0000-7000-8000-000000000001"
A_SANDBOX = Sandbox(
    id=ID,
    owner="org",
    name="box",
    image="default",
    state=State.STARTED,
    created_at=NOW,
    changed_at=NOW,
    active_at=NOW,
    size=Size(cpu=0.5, memory_mib=1536, disk_gib=3),
    machine=Machine("task", "10.0.0.1:2280"),
)


def words(text: str) -> list[str]:
    return text.split()


FIELDS = words("""snapshot user env labels public networkBlockAll networkAllowList class target cpu gpu memory disk
autoStopInterval autoArchiveInterval autoDeleteInterval volumes buildInfo
name kvm domainAllowList outboundProxyUrl otelEndpointOverride gpuType spot autoPauseInterval ttlMinutes queueTimeout
linkedSandbox secrets""")
"""What the clients of 0.109 (the first two lines) and of 0.226 can send with a new sandbox."""

WORKSPACE_FIELDS = words("""image user env labels public class target cpu gpu memory disk autoStopInterval autoArchiveInterval
volumes buildInfo""")

FILTERS = words("""labels includeErroredDeleted id name states snapshots regions regionIds sandboxClasses minCpu maxCpu
minMemoryGiB maxMemoryGiB minDiskGiB maxDiskGiB minGpu maxGpu isPublic isRecoverable createdAtAfter createdAtBefore
lastEventAfter lastEventBefore autoDestroyAtAfter autoDestroyAtBefore includeWarm sort order limit""")


def call(path: str = "/", *, headers: dict[str, str] | None = None, **query: Any) -> Call:
    request = Request("GET", path, headers=headers or {})
    caller = access.Caller(owner="org", user="me", permissions=frozenset())
    return Call(caller, {}, query, {}, request, "http://127.0.0.1:8080/daytona")


def test_every_field_of_a_new_sandbox_has_a_fate() -> None:
    assert set(NEW) == set(FIELDS)
    assert set(NEW_WORKSPACE) == set(WORKSPACE_FIELDS)


def test_every_filter_of_a_list_has_a_fate() -> None:
    assert set(ARRAY_OR_CURSOR) == {*FILTERS, "cursor", "verbose"}
    assert set(NUMBERED) == {*FILTERS, "page"}


def test_every_state_has_a_word_and_all_but_failure_lead_somewhere() -> None:
    assert set(STATES) == set(State)
    assert set(DESIRED) == set(State) - {State.FAILED}


def test_every_permission_is_one_of_the_cores() -> None:
    assert set(PERMISSIONS.values()) <= access.PERMISSIONS


def test_no_two_rows_answer_the_same_call() -> None:
    rows = [(route.method, *route.path.strip("/").split("/")) for route in DIALECT.routes]
    same = [
        (one, other)
        for one, other in itertools.combinations(rows, 2)
        if len(one) == len(other)
        and all(a == b or (a[0] == "{" and b[0] == "{") for a, b in zip(one, other, strict=True))
    ]

    assert not same


def test_every_row_of_the_toolbox_is_carried_by_the_edge_and_names_its_sandbox() -> None:
    toolbox = [route for route in DIALECT.routes if route.path.startswith("/toolbox/")]

    assert toolbox
    assert all(route.on_edge and "{sandbox}" in route.path and route.needs for route in toolbox)
    assert not [r.path for r in DIALECT.routes if r.on_edge and r not in toolbox]


def test_only_what_a_client_needs_before_it_has_a_key_is_open() -> None:
    assert {route.path for route in DIALECT.routes if route.open} == {"/config", "/health", "/health/ready"}


def test_whatever_changes_something_needs_a_permission() -> None:
    assert not [r.path for r in DIALECT.routes if r.method != "GET" and not r.needs]


def test_the_page_of_what_is_served_is_up_to_date() -> None:
    assert coverage.PAGE.read_text() == coverage.page()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu", 0), ("cpu", -1), ("cpu", 10**9), ("cpu", 1.5), ("cpu", "2"), ("cpu", True), ("cpu", float("nan")),
        ("memory", 0), ("memory", 10**9), ("disk", 0), ("disk", 201), ("env", {"A": 1}), ("env", []), ("labels", "x"),
        ("public", "true"), ("public", 1), ("user", "Root"), ("user", "a b"), ("user", "../x"), ("class", "huge"),
        ("autoStopInterval", -1), ("autoStopInterval", 10**12), ("autoDeleteInterval", -(10**12)), ("ttlMinutes", -1),
        ("name", ""), ("name", "n" * 257), ("name", "a\0b"), ("name", "\ud800"), ("target", 5), ("nonsense", 1),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(Invalid, match=field):
        parse(NEW, {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu", 1), ("gpu", False), ("volumes", [{"volumeId": "v", "mountPath": "/m"}]), ("kvm", True), ("spot", True),
        ("buildInfo", {"dockerfileContent": "FROM debian"}), ("networkBlockAll", True), ("networkAllowList", "10.0.0.0/8"),
        ("domainAllowList", "example.org"), ("secrets", [{"A": "b"}]), ("autoPauseInterval", 5), ("gpuType", ["H100"]),
        ("outboundProxyUrl", "http://p"), ("linkedSandbox", "x"), ("otelEndpointOverride", "https://o"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused(field: str, value: Any) -> None:
    with pytest.raises(Unsupported):
        parse(NEW, {field: value})


def test_what_asks_for_nothing_is_taken() -> None:
    nothing = {"gpu": 0, "volumes": [], "networkBlockAll": False, "secrets": [], "kvm": False, "autoPauseInterval": 0}

    parse(NEW, {**nothing, "queueTimeout": 30, "snapshot": None})


def test_intervals_have_daytonas_meanings() -> None:
    read = parse(NEW, {"autoStopInterval": 0, "autoArchiveInterval": 0, "autoDeleteInterval": -1})

    assert read == {
        "stop_after_idle": None,
        "archive_after_stopped": timedelta(days=30),
        "delete_after_stopped": None,
    }
    assert parse(NEW, {"autoDeleteInterval": 0}) == {"delete_after_stopped": timedelta(0)}


def test_intervals_are_told_as_they_were_read() -> None:
    never = replace(A_SANDBOX, policy=Policy(stop_after_idle=None, delete_after_stopped=timedelta(0)))

    told = render(SANDBOX, never, call())

    assert (told["autoStopInterval"], told["autoArchiveInterval"], told["autoDeleteInterval"]) == (0, 10080, 0)
    assert render(SANDBOX, A_SANDBOX, call())["autoDeleteInterval"] == -1


def test_a_sandbox_is_told_in_whole_numbers_and_with_all_that_is_required() -> None:
    told = render(SANDBOX, A_SANDBOX, call())

    assert (told["cpu"], told["memory"], told["disk"], told["gpu"]) == (1, 2, 3, 0)
    assert (told["target"], told["user"], told["kvm"]) == ("local", "root", False)
    assert told["toolboxProxyUrl"] == "http://127.0.0.1:8080/daytona/toolbox"
    assert "errorReason" not in told
    assert set(LISTED) <= set(SANDBOX)


def test_a_failed_sandbox_tells_why_and_a_saved_one_when() -> None:
    failed = replace(
        A_SANDBOX,
        state=State.FAILED,
        reason="out of memory",
        network=Network(allow=("10.0.0.0/8", "192.168.0.0/16")),
        checkpoint=Checkpoint("k", 1, "s", NOW),
    )

    told = render(SANDBOX, failed, call())

    assert (told["state"], told["errorReason"], told["recoverable"]) == ("error", "out of memory", True)
    assert (told["backupState"], told["backupCreatedAt"]) == ("Completed", "2026-11-22T12:00:00.000Z")
    assert told["networkAllowList"] == "10.0.0.0/8,192.168.0.0/16"


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("False", False), ("TRUE", True)])
def test_a_truth_in_a_query_is_read_however_it_is_written(text: str, truth: bool) -> None:
    assert flag(text) is truth


@pytest.mark.parametrize("text", ["", "1", "yes", "null", 1])
def test_what_is_no_truth_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="true or false"):
        flag(text)


@pytest.mark.parametrize("text", ["null", "{}"])
def test_no_labels_in_a_query_are_no_filter(text: str) -> None:
    assert parse_query(NUMBERED, {"labels": [text]}) == {"labels": {}}


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"a":1}', '"x"', "[" * 100_000])
def test_labels_that_are_not_an_object_of_texts_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="labels"):
        parse_query(NUMBERED, {"labels": [text]})


def test_states_are_read_once_or_several_and_strange_ones_are_refused() -> None:
    assert parse_query(NUMBERED, {"states": ["started"]})["states"] == ["started"]
    assert states_meant(["started", "destroying", "build_failed"]) == {State.STARTED, State.DELETING}
    with pytest.raises(Invalid, match="asleep"):
        states_meant(["asleep"])


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.109.0", (0, 109)), ("0.226.1", (0, 226)), ("", (0, 109)), ("x.y", (0, 109)), ("1.2.3-alpha", (1, 2))],
)
def test_the_generation_is_read_from_the_header(version: str, expected: tuple[int, int]) -> None:
    assert release(Request("GET", "/", headers={"x-daytona-sdk-version": version})) == expected


def test_an_old_client_is_told_no_word_that_it_does_not_know() -> None:
    assert "manage:api_keys" in permissions_told(access.PERMISSIONS, (0, 226))
    assert "manage:api_keys" not in permissions_told(access.PERMISSIONS, (0, 109))


def test_logs_come_in_the_form_of_each_generation() -> None:
    old, new = {"x-daytona-sdk-version": "0.109.0"}, {"x-daytona-sdk-version": "0.226.1"}
    plain, json = {"accept": "*/*"}, {"accept": "application/json"}

    assert [takes_json_logs(Request("GET", "/", headers=h)) for h in (old, new, plain, json)] == [
        False,
        True,
        False,
        True,
    ]
    assert logs(call(headers=old)) == Relay(
        "GET", "/sessions/{session}/commands/{command}/output?marked=true", receive="stream"
    )
    assert isinstance(logs(call(headers={"upgrade": "WebSocket"})), Socket)
    with pytest.raises(Unsupported, match="WebSocket"):
        logs(call(headers=new, follow=True))


def test_a_followed_log_marks_each_chunk_with_three_bytes() -> None:
    bridge = Followed()

    assert list(bridge.from_agent(b"\x01out")) == [b"\x01\x01\x01out"]
    assert list(bridge.from_agent(b"\x02err")) == [b"\x02\x02\x02err"]
    assert list(bridge.from_agent(b"\x01")) == []
    assert list(bridge.from_client(b"anything")) == list(bridge.opened()) == []
    assert bridge.agent_closed(1000, "") == Close(1000, "")


def wrapped(command: str, env: dict[str, str]) -> str:
    """A command as the SDKs before 0.156 send it."""
    script = f"echo '{base64.b64encode(command.encode()).decode()}' | base64 -d | sh"
    exports = [f"export {k}=$(echo '{base64.b64encode(v.encode()).decode()}' | base64 -d)" for k, v in env.items()]
    return f'sh -c "{";".join(exports)}; {script}"' if exports else f'sh -c "{script}"'


@pytest.mark.parametrize("script", ["echo hi", 'it\'s "quoted" $HOME `ls` \\\\', "a\nb\n", "ünï 漢字"])
def test_the_wrapping_of_older_sdks_is_taken_off(script: str) -> None:
    read = parse(EXECUTE, {"command": wrapped(script, {})})
    with_env = parse(EXECUTE, {"command": wrapped(script, {"A": 'it\'s $x; "y"', "B": ""})})

    assert read["command"] == ["sh", "-c", script]
    assert with_env["command"] == ["env", 'A=it\'s $x; "y"', "B=", "sh", "-c", script]


@pytest.mark.parametrize(
    "raw", ["echo hi", "sh -c \"echo 'x' | base64 -d\"", "sh -c \"echo '!' | base64 -d | sh\" ; ls"]
)
def test_other_commands_are_left_as_they_are(raw: str) -> None:
    assert parse(EXECUTE, {"command": raw})["command"] == raw


@pytest.mark.parametrize("raw", ["", "a\0b", 5, ["ls"], wrapped("a\0b", {}), "sh -c \"echo 'abc' | base64 -d | sh\""])
def test_a_command_that_cannot_be_run_is_refused(raw: Any) -> None:
    with pytest.raises(Invalid, match="command"):
        parse(EXECUTE, {"command": raw})


@pytest.mark.parametrize(("version", "form"), [("0.109.0", "text"), ("0.226.1", "json")])
def test_what_goes_wrong_with_one_of_many_files_is_told_as_each_generation_reads_it(version: str, form: str) -> None:
    relay = download(call(headers={"x-daytona-sdk-version": version}))

    assert relay.path == f"/files/download?errors={form}"


def error_of(refused: Refused, path: str, method: str = "POST") -> Any:
    return DIALECT.error(refused, DIALECT.status(refused), Request(method, path))


def test_the_control_planes_error_is_nests() -> None:
    told = error_of(errors.NotFound("sandbox x not found"), "/sandbox/x", "GET")

    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "statusCode": 404,
        "path": "/daytona/sandbox/x",
        "error": "Not Found",
        "message": "sandbox x not found",
    }


@pytest.mark.parametrize(
    ("refused", "path", "status", "code"),
    [
        (errors.NotFound("no", code="not_found"), "/toolbox/i/toolbox/files/info", 404, "FILE_NOT_FOUND"),
        (errors.NotFound("no", code="not_found"), "/toolbox/i/files", 404, "FILE_NOT_FOUND"),
        (errors.Forbidden("no", code="forbidden"), "/toolbox/i/files/download", 403, "FILE_ACCESS_DENIED"),
        (errors.NotFound("no", code="not_found"), "/toolbox/i/process/session/s", 404, "NOT_FOUND"),
        (errors.Conflict("no", code="gone"), "/toolbox/i/process/session/s/exec", 410, "SESSION_ENDED"),
        (errors.Forbidden("no", code="git_auth"), "/toolbox/i/git/clone", 401, "GIT_AUTH_FAILED"),
        (errors.Conflict("no", code="git_conflict"), "/toolbox/i/git/push", 409, "GIT_PUSH_REJECTED"),
        (errors.LimitReached("no", code="full"), "/toolbox/i/files/bulk-upload", 400, "NO_SPACE_LEFT"),
        (errors.Invalid("no"), "/toolbox/i/process/execute", 400, "BAD_REQUEST"),
        (errors.Unsupported("no"), "/toolbox/i/nothing", 400, "BAD_REQUEST"),
        (errors.Unavailable("no"), "/toolbox/i/files", 503, "SERVICE_UNAVAILABLE"),
    ],
)
def test_the_toolboxs_error_has_a_code_that_the_sdks_know(refused: Refused, path: str, status: int, code: str) -> None:
    told = error_of(refused, path)

    assert (told["statusCode"], told["code"], told["source"]) == (status, code, "DAYTONA_DAEMON")
    assert (told["message"], told["path"], told["method"]) == ("no", "/daytona" + path, "POST")


def test_a_timeout_keeps_what_was_written_until_then() -> None:
    late = errors.TimedOut("it took longer than 1 s", code="timeout", answer={"output": "half"})

    told = error_of(late, "/toolbox/i/toolbox/process/execute")

    assert (told["statusCode"], told["output"]) == (408, "half")
    assert told["message"] == "command execution timeout: it took longer than 1 s"


def test_labels_must_be_given_to_be_replaced() -> None:
    with pytest.raises(Invalid, match="labels is missing"):
        parse(LABELS_IN, {})


def test_the_lists_of_operations_name_each_once() -> None:
    for listing in Path(coverage.HERE).glob("*/operations-*.txt"):
        keys = [operation.key for operation in coverage.operations(listing)]
        assert len(keys) == len(set(keys)), listing
