"""From nothing to listening, and what happens when that fails."""

import http.client
import ipaddress
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.agent.conftest import Start
from tests.agent.control_plane import AGENT_TOKEN, BOOT_TOKEN, ControlPlane, Plan


def test_the_agent_says_hello_when_it_listens(control: ControlPlane, start: Start) -> None:
    agent = start(control)

    said = agent.hello()

    assert control.boots == [{"sandbox": "sb-1", "agent_version": "1.0.0"}]
    assert said == {
        "sandbox": "sb-1",
        "task_token": "task-token",
        "port": said["port"],
        "restored": False,
        "error": None,
    }
    assert agent.client(token=None).get("/health").json["status"] == "ok"


def test_boot_over_a_unix_socket(start: Start, tmp_path: Path) -> None:
    with ControlPlane(socket=tmp_path / "s") as control:
        agent = start(control)

        assert agent.hello()["error"] is None
        agent.stop()


def test_boot_over_tls_trusts_only_known_certificates(start: Start, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    with ControlPlane(tls=context) as control:
        trusting = start(control, SSL_CERT_FILE=str(tmp_path / "pair.pem"))
        doubting = start(control)

        assert trusting.hello()["error"] is None
        trusting.stop()
        assert control.boots == [{"sandbox": "sb-1", "agent_version": "1.0.0"}]
        doubting.process.kill()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "control")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair = key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "pair.pem").write_bytes(pair)
    return folder / "pair.pem"


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410])
def test_an_unknown_sandbox_ends_with_78(start: Start, status: int) -> None:
    with ControlPlane(Plan(boot_statuses=[status])) as control:
        code, log = start(control).ended()

    assert code == 78
    assert str(status) in log


def test_a_control_plane_in_trouble_is_asked_again(start: Start) -> None:
    with ControlPlane(Plan(boot_statuses=[503, 500, 200])) as control:
        agent = start(control)

        assert agent.hello()["error"] is None
        assert len(control.boots) == 3
        agent.stop()


def test_an_incomplete_environment_ends_with_78(control: ControlPlane, start: Start) -> None:
    assert start(control, SANDBAR_AGENT_PORT="many").ended()[0] == 78


def test_sigterm_ends_the_agent_and_its_children(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    pid = agent.client().exec("trap '' TERM HUP; (setsid sleep 1000 >/dev/null 2>&1 & echo $!)").json["stdout"].strip()
    assert Path(f"/proc/{pid}").exists()

    code, _ = agent.stop()

    assert code == 0
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("token", [None, "", "wrong", "agent-token2", "agent-toke", "\xff"])
def test_every_call_but_health_needs_the_token(control: ControlPlane, start: Start, token: str | None) -> None:
    agent = start(control)
    agent.hello()
    client = agent.client(token)

    replies = [
        client.get("/info"),
        client.get("/nowhere"),
        client.post("/exec", {"command": "true"}),
        client.get("/proxy/1/"),
    ]

    assert [(reply.status, reply.json["error"]) for reply in replies] == [(401, "unauthorized")] * 4
    assert client.get("/health").status == 200


def test_garbage_does_not_end_the_agent(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    for garbage in (
        b"\x00\xff" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /exec HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\r\n" * 1000,
    ):
        link = http.client.HTTPConnection("127.0.0.1", agent.port)
        link.connect()
        link.sock.sendall(garbage)
        link.close()

    assert agent.client().exec("echo alive").json["stdout"] == "alive\n"


def test_an_agent_started_again_shows_what_it_was_told(control: ControlPlane, start: Start) -> None:
    first = start(control)
    first.hello()
    first.process.kill()
    first.process.wait()
    (first.home / "kept").write_text("since the first start")
    control.plan.restore = None

    again = start(control, first.root)

    assert again.hello()["error"] is None
    assert control.tokens == [BOOT_TOKEN, AGENT_TOKEN]
    assert stat.S_IMODE((first.root / "opt/sandbar/var/identity").stat().st_mode) == 0o600


def test_a_disk_of_another_incarnation_does_not_stand_in_the_way(
    control: ControlPlane, start: Start, tmp_path: Path
) -> None:
    kept = tmp_path / "old/opt/sandbar/var/identity"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"sandbox": "sb-0", "agent_token": "agent-token-of-old", "born_ns": 1}')

    assert start(control, tmp_path / "old").hello()["error"] is None
    kept.write_text("{")
    assert start(control, tmp_path / "old").hello()["error"] is None


def test_a_claimed_machine_is_somebody_else_once(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    claim = {"sandbox": "sb-2", "agent_token": "second-token", "env": {"WHOSE": "mine"}, "user": None}

    assert agent.client().post("/claim", claim).json == {}

    claimed = agent.client("second-token")
    assert agent.client().get("/info").status == 401
    assert claimed.exec("echo $WHOSE-$GREETING").json["stdout"] == "mine-\n"
    assert claimed.post("/claim", claim).status == 409
