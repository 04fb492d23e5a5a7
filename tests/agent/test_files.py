"""Files as streams and as entries."""

import email
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.agent.running import Agent, Answer, Client


def multipart(parts: list[tuple[str, bytes]], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    body = b""
    for name, content in parts:
        extra = '; filename="x"' if name.endswith("file") else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def upload(client: Client, parts: list[tuple[str, bytes]]) -> Answer:
    return client.ask("POST", "/files/upload", *multipart(parts))


def test_a_file_goes_up_and_comes_down(client: Client, home: Path) -> None:
    content = os.urandom(3_000_000)

    put = client.ask("PUT", "/files/content", content, path=f"{home}/new/deep/file", mode="0640")
    got = client.get("/files/content", path=f"{home}/new/deep/file")

    assert put.json == {"path": f"{home}/new/deep/file", "size": 3_000_000}
    assert got.body == content
    assert stat.S_IMODE((home / "new/deep/file").stat().st_mode) == 0o640


def test_relative_paths_and_home_are_understood(client: Client, agent: Agent) -> None:
    client.ask("PUT", "/files/content", b"1", path="relative/file")

    assert client.get("/files/content", path="~/relative/file").body == b"1"
    assert client.get("/files/info", path="/home/daytona/relative/file").json["path"] == f"{agent.home}/relative/file"


def test_replacing_keeps_the_mode_and_writes_through_links(client: Client, home: Path) -> None:
    (home / "script").write_text("old")
    (home / "script").chmod(0o755)
    (home / "link").symlink_to("script")

    client.ask("PUT", "/files/content", b"new", path=f"{home}/link")

    assert (home / "script").read_text() == "new"
    assert (home / "link").is_symlink()
    assert stat.S_IMODE((home / "script").stat().st_mode) == 0o755


def test_an_upload_that_breaks_off_changes_nothing(client: Client, agent: Agent, home: Path) -> None:
    (home / "file").write_text("whole")
    leaving = agent.client()
    leaving.link.putrequest("PUT", f"/files/content?path={home}/file")
    leaving.link.putheader("Authorization", leaving.headers["Authorization"])
    leaving.link.putheader("Content-Length", "1000000")
    leaving.link.endheaders(b"half")
    leaving.close()

    assert client.exec("sleep 0.2; ls -A", cwd=str(home)).json["stdout"] == "file\n"
    assert (home / "file").read_text() == "whole"


@pytest.mark.parametrize(
    ("range", "status", "body"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-100", 206, b"56789"),
        ("bytes=0-9", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("bytes=1-2,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(client: Client, home: Path, range: str, status: int, body: bytes) -> None:
    (home / "digits").write_text("0123456789")

    got = client.ask("GET", "/files/content", headers={"Range": range}, path=f"{home}/digits")

    assert (got.status, got.body, got.headers["content-length"]) == (status, body, str(len(body)))


def test_a_range_outside_is_416_and_an_etag_saves_the_body(client: Client, home: Path) -> None:
    (home / "digits").write_text("0123456789")
    etag = client.get("/files/content", path=f"{home}/digits").headers["etag"]

    assert client.ask("GET", "/files/content", headers={"Range": "bytes=10-"}, path=f"{home}/digits").status == 416
    assert client.ask("GET", "/files/content", headers={"If-None-Match": etag}, path=f"{home}/digits").status == 304
    head = client.ask("HEAD", "/files/content", path=f"{home}/digits")
    assert (head.status, head.headers["content-length"], head.body) == (200, "10", b"")


def test_files_of_the_kernel_have_content(client: Client, agent: Agent) -> None:
    assert client.exec("ln -s /proc/self/status status-link").status == 200
    (agent.home / "empty").touch()

    assert client.get("/files/content", path="empty").body == b""


def test_many_go_up_in_any_order(client: Client, home: Path) -> None:
    paths = [(f"files[{index}].path", f"{home}/{index}".encode()) for index in range(50)]
    files = [(f"files[{index}].file", b"\r\n--b0undar" * index) for index in range(50)]

    first = upload(client, paths + files)
    pairs = [part for pair in zip(paths, files, strict=True) for part in pair]
    second = upload(client, pairs)

    assert first.json == second.json
    assert [entry["size"] for entry in first.json["files"]] == [11 * index for index in range(50)]
    assert (home / "7").read_bytes() == b"\r\n--b0undar" * 7


@pytest.mark.parametrize(
    "parts",
    [
        [("files[0].file", b"x"), ("files[0].path", b"late")],
        [("files[0].path", b"alone")],
        [("other", b"x")],
        [("path", b"a\0b"), ("file", b"x")],
        [("path", b""), ("file", b"x")],
    ],
)
def test_wrong_multipart_is_400(client: Client, parts: list[tuple[str, bytes]]) -> None:
    assert upload(client, parts).status == 400


def test_cut_or_other_bodies_are_refused(client: Client) -> None:
    body, headers = multipart([("path", b"cut"), ("file", b"x" * 1000)])

    assert client.ask("POST", "/files/upload", body[:-500], headers).status == 400
    assert client.ask("POST", "/files/upload", body, {"Content-Type": "text/plain"}).status == 415
    assert client.get("/files/info", path="cut").status == 404


def test_many_come_down_with_the_missing_named(client: Client, home: Path) -> None:
    (home / "one").write_bytes(b"1" * 300_000)
    (home / 'odd "name"').write_bytes(b"\r\n--DAYTONA\r\n")
    asked = [f"{home}/one", f"{home}/missing", f'{home}/odd "name"', str(home)]

    reply = client.post("/files/download", {"paths": asked})

    parts = _parts(reply)
    assert [name for name, _, _ in parts] == ["file", "error", "file", "error"]
    assert [filename for _, filename, _ in parts] == asked
    assert (parts[0][2], parts[2][2]) == (b"1" * 300_000, b"\r\n--DAYTONA\r\n")
    assert b'"not_found"' in parts[1][2]
    assert b'"invalid"' in parts[3][2]


def _parts(reply: Answer) -> list[tuple[Any, Any, Any]]:
    head = f"Content-Type: {reply.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + reply.body)
    parts: Any = message.get_payload()
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in parts
    ]


def test_a_listing_shows_what_is_there(client: Client, home: Path) -> None:
    (home / "b").mkdir()
    (home / "b/inside").touch()
    (home / "a").write_text("12345")
    os.utime(home / "a", ns=(0, 1_600_000_000_123_456_789))
    (home / "c").symlink_to("b")

    shallow = client.get("/files", path=str(home)).json["entries"]
    deep = client.get("/files", path=str(home), depth=2).json["entries"]

    assert [(e["name"], e["is_dir"], e["is_link"], e["link_target"]) for e in shallow] == [
        ("a", False, False, None),
        ("b", True, False, None),
        ("c", True, True, "b"),
    ]
    assert [Path(entry["path"]).name for entry in deep] == ["a", "b", "inside", "c"]
    assert (shallow[0]["size"], shallow[0]["modified_at"]) == (5, "2020-09-13T12:26:40.123456789Z")
    assert (shallow[0]["mode"], shallow[0]["permissions"]) == ("-rw-r--r--", "0644")


def test_names_that_are_not_utf8_survive_the_round(client: Client, home: Path) -> None:
    name = os.fsencode(home) + b"/odd-\xff"

    assert client.ask("PUT", "/files/content", b"x", path=name).status == 200
    listed = client.get("/files", path=str(home)).json["entries"][0]["path"]

    assert os.fsencode(listed) == name
    assert client.post("/files/move", {"source": listed, "destination": f"{home}/plain"}).status == 200


def test_folders_are_made_moved_and_deleted(client: Client, home: Path) -> None:
    assert client.post("/files/folder", {"path": f"{home}/a/b", "mode": "0700"}).status == 201
    assert client.post("/files/folder", {"path": f"{home}/a/b"}).status == 201
    assert stat.S_IMODE((home / "a/b").stat().st_mode) == 0o700
    assert client.post("/files/move", {"source": f"{home}/a", "destination": f"{home}/z"}).status == 200
    assert client.delete("/files", path=f"{home}/z").status == 400
    assert client.delete("/files", path=f"{home}/z", recursive="true").status == 204
    assert client.delete("/files", path=f"{home}/z").status == 404


def test_a_move_overwrites_nothing(client: Client, home: Path) -> None:
    (home / "one").write_text("1")
    (home / "two").write_text("2")
    (home / "folder").mkdir()

    assert client.post("/files/move", {"source": f"{home}/one", "destination": f"{home}/two"}).status == 409
    assert client.post("/files/move", {"source": f"{home}/none", "destination": f"{home}/x"}).status == 404
    assert client.post("/files/move", {"source": f"{home}/one", "destination": f"{home}/no/x"}).status == 404
    assert client.post("/files/move", {"source": f"{home}/folder", "destination": f"{home}/folder/in"}).status == 400
    assert (
        client.post("/files/move", {"source": f"{home}/one", "destination": f"{home}/folder"}).json["path"]
        == f"{home}/folder/one"
    )
    assert (home / "two").read_text() == "2"


def test_deleting_a_link_leaves_what_it_leads_to(client: Client, home: Path) -> None:
    (home / "target").mkdir()
    (home / "target/file").touch()
    (home / "link").symlink_to("target")

    assert client.delete("/files", path=f"{home}/link").status == 204
    assert (home / "target/file").exists()


def test_permissions_change(client: Client, home: Path) -> None:
    (home / "file").touch()
    own = os.getuid()

    reply = client.post("/files/permissions", {"path": f"{home}/file", "mode": "600", "owner": str(own)})

    assert reply.json["permissions"] == "0600"
    assert client.post("/files/permissions", {"path": f"{home}/file", "owner": "no-such-user"}).status == 400
    assert client.post("/files/permissions", {"path": f"{home}/file", "mode": "rwx"}).status == 400


def test_text_is_found_and_binary_is_not_searched(client: Client, home: Path) -> None:
    (home / "a.py").write_text("one\n# TODO: [x] (y)\r\nthree TODO")
    (home / "binary").write_bytes(b"\0TODO")
    (home / "loop").symlink_to(".")

    found = client.get("/files/find", path=str(home), pattern="TODO").json

    assert found == {
        "matches": [
            {"path": f"{home}/a.py", "line": 2, "content": "# TODO: [x] (y)"},
            {"path": f"{home}/a.py", "line": 3, "content": "three TODO"},
        ],
        "truncated": False,
    }
    assert client.get("/files/find", path=str(home), pattern="[x] (y)").json["matches"]


def test_names_are_found_by_pattern(client: Client, home: Path) -> None:
    (home / "sub").mkdir()
    for name in ("a.py", "sub/b.py", "sub/c.txt"):
        (home / name).touch()

    assert client.get("/files/search", path=str(home), pattern="*.py").json["paths"] == [
        f"{home}/a.py",
        f"{home}/sub/b.py",
    ]
    assert client.get("/files/search", path=str(home), pattern="sub/*.txt").json["paths"] == [f"{home}/sub/c.txt"]
    assert client.get("/files/search", path=str(home), pattern="none").json == {"paths": [], "truncated": False}


def test_text_is_replaced_in_many(client: Client, home: Path) -> None:
    (home / "a").write_text("x.y x.y")
    (home / "b").write_bytes(b"\0x.y")

    results = client.post(
        "/files/replace", {"paths": [f"{home}/a", f"{home}/b", f"{home}/c"], "pattern": "x.y", "replacement": "\\1"}
    ).json["results"]

    assert [result["success"] for result in results] == [True, False, False]
    assert (home / "a").read_text() == "\\1 \\1"


@pytest.mark.parametrize("path", ["/", "//", "/../..", "../" * 40])
def test_the_root_is_not_deleted(client: Client, agent: Agent, path: str) -> None:
    assert client.delete("/files", path=path, recursive="true").status == 400
    assert agent.home.exists()


def test_a_link_out_of_the_folder_is_not_followed(client: Client, home: Path) -> None:
    (home / "out").symlink_to("/")

    for reply in (
        client.get("/files/content", path=f"{home}/out/etc/passwd"),
        client.get("/files", path=f"{home}/out"),
        client.ask("PUT", "/files/content", b"x", path=f"{home}/out/tmp/escaped"),
        client.exec("pwd", cwd=f"{home}/out/etc"),
    ):
        assert (reply.status, reply.json["error"]) == (403, "forbidden")
    assert client.get("/files/content", path="../../../../../etc/passwd").status == 404
    assert client.get("/files/info", path=f"{home}/out").json["link_target"] == "/"
