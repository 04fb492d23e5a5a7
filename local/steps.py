"""The steps on the way up that are more than starting a process."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local import images, progress, stage
from local.engine import EngineRefused
from local.engines import EngineChoice
from local.errors import SetupError
from local.home import CODE, Home
from local.image_stores import DockerStore, ImageStore, PodmanStore
from local.settings import Settings
from local.stack import Ports, stage_url

NO_CONTAINERS = """\
  !! No container engine is used: sandboxes are plain processes of this user in folders of their own.
  !! They can read and change whatever this user can. Run only what you would run yourself."""
# The stand-in knows neither networks nor who may use them; containers are on a bridge of their own.
NETWORK = {"Vpc": "vpc-local", "Subnets": "subnet-local", "AssignPublicIp": "DISABLED"}
DOOR = "unix:/run/sandbar/door/control.sock"
STOP_SECONDS = 3.0
STOPPED_AT_ONCE = 8


@dataclass(frozen=True)
class Entry:
    """How to get in: the names of the APIs, and the administrator's key if it may be shown."""

    dialects: Sequence[str]
    key: str | None


def package(home: Home) -> None:
    """Have build/ hold what is deployed."""
    with progress.step("The package that is deployed"):
        _python(["infra.package"], os.environ, "packaging")


def image(choice: EngineChoice) -> str:
    """The reference of the image that sandboxes boot from, built where it is missing."""
    if choice.kind == "process":
        return "none"
    cache = images.default_cache()
    store: ImageStore = PodmanStore(cache) if choice.kind == "podman" else DockerStore(choice.url)
    with progress.step("The default image"):
        return images.ensure_default_image(store, cache, lambda said: progress.say(f"    {said}"))


def deploy(
    home: Home, ports: Ports, settings: Settings, choice: EngineChoice, image: str, told: Mapping[str, str]
) -> dict[str, str]:
    """Deploy, show the door the way, and return what the edge is told."""
    control = f"unix:{home.control_socket}" if choice.kind == "process" else DOOR
    parameters = {**NETWORK, "Url": settings.url, "Control": control, "Image": image, "Warm": settings.warm}
    named = [f"{name}={value}" for name, value in parameters.items()]
    outputs = json.loads(_python(["local.deploy", *named], told, "deploying"))
    api = stage_url(ports.cloud_url, outputs["EndpointURL"])
    stage.publish(home, api)
    return {
        **told,
        "SANDBAR_API": api,
        "SANDBAR_URL": settings.url,
        "SANDBAR_CONTROL": control,
        "SANDBAR_TABLES": outputs["TablePrefix"],
        "SANDBAR_BUCKET": outputs["CheckpointBucket"],
        "SANDBAR_CLUSTER": outputs["SandboxCluster"],
        "SANDBAR_WORKFLOWS": outputs["WorkflowPrefix"],
    }


def admit(home: Home, settings: Settings, told: Mapping[str, str]) -> Entry:
    """See that the administrator has a key: the one that is given, or one made at the first start and shown once."""
    noted = home.data / "administrator"
    key = settings.api_key or (None if noted.exists() else "sb_" + secrets.token_urlsafe(32))
    more = {"SANDBAR_API_KEY": key} if key else {}
    dialects = json.loads(_python(["local.admit"], {**told, **more}, "admitting the administrator"))
    if not settings.api_key and key:
        noted.write_text(f"The first key was shown when it was made. It ends in {key[-4:]}.\n")
    return Entry(dialects, key)


def ready(settings: Settings, entry: Entry, seconds: float) -> str:
    """The last lines on the terminal: where everything is, and how to try it."""
    key = entry.key or "<your key>"
    bases = [f"  {settings.url}/{name}" for name in entry.dialects]
    made = [] if settings.api_key or not entry.key else [f"Your key, shown this once: {entry.key}"]
    lines = [
        f"Sandbar is ready after {seconds:.1f} s. Ctrl-C stops it; nothing is lost.",
        *bases,
        *made,
        "Try it in a second shell:",
        f"  export DAYTONA_API_URL={settings.url}/daytona DAYTONA_API_KEY={key}",
        "  pip install daytona && python -c 'from daytona import Daytona; "
        'print(Daytona().create().process.exec("uname -a").result)\'',
    ]
    return "\n".join(lines)


def halt(home: Home, choice: EngineChoice) -> bool:
    """Stop every machine; their disks stay. Whether none runs then."""
    from local.machines import connect

    engine = connect(home, choice.kind, choice.url)
    try:
        running = [machine.id for machine in engine.all() if machine.running]
        with ThreadPoolExecutor(max_workers=STOPPED_AT_ONCE) as pool:
            list(pool.map(lambda id: engine.stop(id, STOP_SECONDS), running))
    except EngineRefused as refusal:
        progress.complain(f"not every machine could be stopped: {refusal}")
        return False
    finally:
        engine.close()
    return True


def _python(module: Sequence[str], environment: Mapping[str, str], doing: str) -> str:
    """What that module of ours prints; `SetupError` with its last line where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *module], cwd=CODE, env=dict(environment), capture_output=True, text=True
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise SetupError(f"{doing} failed: {said[-1]}")
    return done.stdout
