"""Rows 8 and 9: one large file and many small ones, up and down."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks import peers
from benchmarks.exec import ignoring
from benchmarks.measuring import OURS, Times, Verdict, interleaved, tell
from benchmarks.stand import Client, Stand

MIB = 1024 * 1024
LARGE, SMALL, MANY = 256 * MIB, 1024, 1000
ROUNDS = 8
BOUNDARY = "sandbar-benchmark"
SOCKET, TAR, SFTP = "floor: bare socket, sendfile", "floor: tar over a socket", "sftp, connection kept"


def measure(stand: Stand) -> None:
    """Both rows, both ways."""
    with stand.sandbox() as id, peers.ssh() as ssh, tempfile.TemporaryDirectory(prefix="sandbar-files-") as folder:
        where = Path(folder)
        _large(stand.client(), id, ssh, where)
        _many(stand.client(), id, ssh, where)


def _large(client: Client, id: str, ssh: peers.Ssh, where: Path) -> None:
    source, there = where / "large", where / "there"
    with source.open("wb") as file:
        for _ in range(LARGE // MIB):
            file.write(os.urandom(MIB))
    up = interleaved(
        {
            OURS: lambda: upload(client, id, [("large", source)]),
            SOCKET: lambda: across(lambda wire: wire.sendfile(source.open("rb")), lambda wire: kept(wire, there)),
            SFTP: lambda: ssh.sftp(f"put {source} {there}"),
        },
        ROUNDS,
        warm=1,
    )
    tell(8, "upload of 256 MiB", up, _verdicts(up))
    down = interleaved(
        {
            OURS: lambda: download(client, f"/toolbox/{id}/toolbox/files/download?path=large"),
            SOCKET: lambda: across(lambda wire: wire.sendfile(source.open("rb")), dropped),
            SFTP: lambda: ssh.sftp(f"get {source} /dev/null"),
        },
        ROUNDS,
        warm=1,
    )
    tell(8, "download of 256 MiB", down, _verdicts(down))


def _verdicts(times: dict[str, Times]) -> list[Verdict]:
    ours = times[OURS].p50
    return [
        Verdict("at least a third of the floor's speed", ours, 3 * times[SOCKET].p50),
        Verdict("at least twice sftp's speed", ours, times[SFTP].p50 / 2),
    ]


def _many(client: Client, id: str, ssh: peers.Ssh, where: Path) -> None:
    source, there = where / "many", where / "theirs"
    source.mkdir()
    for number in range(MANY):
        (source / str(number)).write_bytes(os.urandom(SMALL))
    files = [(f"many/{path.name}", path) for path in source.iterdir()]
    paths = b'{"paths": [%s]}' % b", ".join(b'"%s"' % name.encode() for name, _ in files)
    up = interleaved(
        {
            OURS: lambda: upload(client, id, files),
            TAR: lambda: tarred(source, _emptied(there)),
            SFTP: lambda: ssh.sftp(f"put -r {source} {_emptied(there)}"),
        },
        ROUNDS,
        warm=1,
    )
    tell(9, "1,000 files of 1 KB up", up, [_tenth(up)])
    down = interleaved(
        {
            OURS: lambda: download(client, f"/toolbox/{id}/toolbox/files/bulk-download", paths),
            TAR: lambda: tarred(source, _emptied(there)),
            SFTP: lambda: ssh.sftp(f"get -r {source} {_emptied(there)}"),
        },
        ROUNDS,
        warm=1,
    )
    tell(9, "1,000 files of 1 KB down", down, [_tenth(down)])


def _tenth(times: dict[str, Times]) -> Verdict:
    return Verdict("at least ten times sftp's speed", times[OURS].p50, times[SFTP].p50 / 10)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def upload(client: Client, id: str, files: list[tuple[str, Path]]) -> None:
    """Send files in the form that the SDK uses: all paths first, then the files."""
    parts: list[bytes | Path] = [_part(f"files[{n}].path") + name.encode() for n, (name, _) in enumerate(files)]
    for number, (_, path) in enumerate(files):
        parts += [_part(f"files[{number}].file", '; filename="f"'), path]
    parts.append(f"\r\n--{BOUNDARY}--\r\n".encode())
    size = sum(part.stat().st_size if isinstance(part, Path) else len(part) for part in parts)
    client.post(f"/toolbox/{id}/toolbox/files/bulk-upload", parts, size, f"multipart/form-data; boundary={BOUNDARY}")


def _part(name: str, more: str = "") -> bytes:
    return f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()


def download(client: Client, path: str, body: bytes | None = None) -> None:
    """Fetch and drop."""
    client.drop("GET" if body is None else "POST", path, body)


def across(send: Callable[[socket.socket], object], receive: Callable[[socket.socket], None]) -> None:
    """One new connection over loopback: something sends, something receives, until all has arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()

        def sent() -> None:
            with here:
                send(here)

        sender = threading.Thread(target=sent)
        sender.start()
        with there:
            receive(there)
        sender.join()


def kept(wire: socket.socket, path: Path) -> None:
    """Receive into a file."""
    buffer = memoryview(bytearray(MIB))
    with path.open("wb", buffering=0) as file:
        while size := wire.recv_into(buffer):
            file.write(buffer[:size])


def dropped(wire: socket.socket) -> None:
    """Receive and drop."""
    buffer = bytearray(MIB)
    while wire.recv_into(buffer):
        pass


def tarred(source: Path, target: Path) -> None:
    """A folder packed into a socket and unpacked out of it."""
    across(
        lambda wire: subprocess.run(["tar", "c", "-C", source, "."], stdout=wire.fileno(), check=True),
        lambda wire: ignoring(subprocess.run(["tar", "x", "-C", target], stdin=wire.fileno(), check=True)),
    )
