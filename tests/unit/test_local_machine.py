"""What the local stack asks of the machine it runs on: folders, addresses, mounts, limits, ports, processes."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local import checks, mounts, networks, podman, stage
from local import home as homes
from local.children import Child, NotReady, free_ports, listens
from local.errors import SetupError
from local.exits import Exits
from local.home import Home
from local.settings import from_environment

TAG = "00000000"


@pytest.fixture(name="home")
def a_home(tmp_path: Path) -> Home:
    home = Home(data=tmp_path / "data", run=tmp_path / "run" / "x")
    homes.prepare(home)
    return home


def test_two_data_folders_share_no_name(tmp_path: Path) -> None:
    one, other = homes.at(tmp_path / "one"), homes.at(tmp_path / "other")

    assert one.run != other.run
    assert networks.interface(one.tag) != networks.interface(other.tag)
    assert len(networks.interface(one.tag)) <= 15


def test_a_socket_s_path_is_short_however_deep_the_data_lies(tmp_path: Path) -> None:
    deep = homes.at(tmp_path.joinpath(*["a-folder-with-a-long-name"] * 10))

    assert len(str(deep.control_socket)) < 100


def test_folders_are_ours_alone(home: Home) -> None:
    assert home.data.stat().st_mode & 0o777 == 0o700
    assert home.run.stat().st_mode & 0o777 == 0o700


def test_scratch_of_an_earlier_boot_is_thrown_away(home: Home) -> None:
    (home.run / "boot").write_text("another boot")
    (home.run / "stale").touch()

    homes.prepare(home)

    assert not (home.run / "stale").exists()


def test_a_runtime_folder_that_is_somebody_s_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "theirs")

    with pytest.raises(PermissionError, match="belongs to another user"):
        homes.prepare(Home(data=tmp_path / "data", run=tmp_path / "run"))


def test_a_range_of_addresses_is_taken_that_nobody_uses() -> None:
    first = networks.free(TAG, [])

    assert networks.free(TAG, [first]) != first
    assert not networks.free(TAG, [ipaddress.IPv4Network("10.212.0.0/15")]).overlaps(
        ipaddress.IPv4Network("10.212.0.0/15")
    )


def test_where_every_range_is_used_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="no free address range"):
        networks.free(TAG, [networks.POOL])


def test_this_machine_s_own_routes_are_in_use() -> None:
    assert all(network.prefixlen for network in networks.used())


def test_a_mount_point_is_read_as_the_kernel_writes_it() -> None:
    assert mounts._unescaped(r"/a\040folder\011of\134mine") == "/a folder\tof\\mine"


@pytest.mark.parametrize("left", [[], ["fresh"]])
def test_what_is_mounted_below_is_released(home: Home, left: list[str]) -> None:
    points = [home.data / name for name in left]
    for point in points:
        point.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)

    assert mounts.release([home.data]) == []
    assert not any(point.is_mount() for point in points)


def test_podman_s_limits_are_within_our_own(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", _low_limits)
    monkeypatch.setattr(podman, "_may_raise", lambda: False)

    podman.configure(home, [])

    assert '"nofile=4096:4096", "nproc=4096:4096"' in (home.run / "containers.conf").read_text()


def test_podman_is_told_to_share_nothing_with_another(home: Home) -> None:
    podman.configure(home, [Path("/images")])

    written = (home.run / "containers.conf").read_text() + (home.run / "storage.conf").read_text()
    assert 'lock_type = "file"' in written
    assert f'graphroot = "{home.containers}/storage"' in written
    assert 'additionalimagestores = ["/images"]' in written
    assert 'skip_mount_home = "true"' in written


def test_a_container_s_lost_end_is_written_down(home: Home) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert podman.note_lost_exit(home, "abc", gone.pid)
    assert (home.run / "libpod" / "exits" / "abc").read_text() == "137"


def test_the_end_of_a_container_that_lives_or_is_watched_is_not_ours_to_write(home: Home) -> None:
    userdata = home.run / "storage" / "overlay-containers" / "watched" / "userdata"
    userdata.mkdir(parents=True)
    (userdata / "conmon.pid").write_text(str(os.getpid()))

    assert not podman.note_lost_exit(home, "lives", os.getpid())
    assert not podman.note_lost_exit(home, "watched", 0)


def test_the_end_of_a_process_is_told_at_once() -> None:
    process, told, exits = subprocess.Popen(["sleep", "60"]), threading.Event(), Exits()

    assert exits.watch(process.pid, told.set)
    process.kill()

    assert told.wait(5)
    process.wait()
    exits.close()


def test_a_process_that_is_gone_cannot_be_watched() -> None:
    gone, exits = subprocess.Popen(["true"]), Exits()
    gone.wait()

    assert not exits.watch(gone.pid, print)
    exits.close()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"SANDBAR_PORT": "http"}, "SANDBAR_PORT=http is no port"),
        ({"SANDBAR_PORT": "0"}, "SANDBAR_PORT=0 is no port"),
        ({"SANDBAR_PORT": "65536"}, "SANDBAR_PORT=65536 is no port"),
    ],
)
def test_a_wrong_setting_is_named(said: dict[str, str], complaint: str) -> None:
    with pytest.raises(SetupError, match=complaint):
        from_environment(said)


def test_settings_have_the_documented_defaults() -> None:
    settings = from_environment({"SANDBAR_PORT": "", "SANDBAR_API_KEY": ""})

    assert (settings.port, settings.data, settings.engine, settings.api_key) == (8080, Path(".data"), "auto", None)


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(SetupError, match="is in use"):
        checks.port_is_free(server.getsockname()[1])


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_FREE_BYTES", 1 << 60)

    with pytest.raises(SetupError, match="make room"):
        checks.disk_has_room(tmp_path)


def test_a_data_folder_is_one_run_s_alone(home: Home) -> None:
    with (
        checks.claimed(home),
        pytest.raises(SetupError, match=f"in use by process {os.getpid()}"),
        checks.claimed(home),
    ):
        pass

    with checks.claimed(home):
        pass


def test_the_api_is_known_only_while_it_answers(home: Home) -> None:
    stage.publish(home, "http://127.0.0.1:1/api")
    assert stage.url(home) == "http://127.0.0.1:1/api"

    stage.withdraw(home)

    assert stage.url(home) == ""


def test_a_child_serves_and_ends(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    child = _child(tmp_path, port, "import http.server as h; h.HTTPServer(('127.0.0.1', PORT), None).serve_forever()")
    child.start()
    child.await_ready()

    child.end()

    assert not child.alive()


def test_a_child_that_ends_at_once_gives_its_last_words(tmp_path: Path) -> None:
    child = _child(tmp_path, 1, "raise SystemExit('no such table')")
    child.start()

    with pytest.raises(NotReady, match="no such table"):
        child.await_ready()


def test_a_child_that_heeds_no_signal_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = _child(tmp_path, 1, program)
    child.ready = lambda: "deaf" in child.last_words()
    child.start()
    child.await_ready()

    child.end(seconds=0.1)

    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


def test_a_child_dies_with_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from local.children import Child;"
        f"child = Child('c', ['sleep', '60'], os.environ, pathlib.Path('{tmp_path}/log'), lambda: True);"
        "child.start(); child.await_ready(); print(child.process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid, ended, exits = int(parent.stdout.readline()), threading.Event(), Exits()
        assert exits.watch(pid, ended.set)

        parent.kill()

    assert ended.wait(5)
    exits.close()


def _low_limits(kind: int) -> tuple[int, int]:
    return 1024, 4096


def _child(folder: Path, port: int, program: str) -> Child:
    command = [sys.executable, "-c", program.replace("PORT", str(port))]
    return Child("part", command, os.environ, folder / "log", listens(port))
