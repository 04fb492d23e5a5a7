"""Makes what is deployed: `python -m infra.package` writes build/template.yaml, code.zip, layer.zip and manifest.json.

The template is Chalice's, with infra/template.yaml merged over it: objects are joined, everything else replaces. The zips
belong in the bucket that the parameter CodeBucket names, under the keys in the manifest, which follow from their contents.
Nothing is done where nothing has changed, and without a network as long as the libraries have not.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from chalice.package import YAMLTemplateSerializer

from infra import layer
from infra.behaviours import cache_behaviours
from infra.zips import pack

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
STAGE = "api"
SOURCES = ("app.py", "chalicelib", ".chalice/config.json", ".chalice/*policy-*.json")
MADE_BY = ("infra/*.py", "infra/template.yaml", "infra/workflows/*.json", "requirements.txt")

Template = dict[str, Any]


def main() -> None:
    """Package, and say what was made."""
    for name in package(BUILD):
        print(f"{name}: {(BUILD / name).stat().st_size:,} bytes")


def package(build: Path) -> list[str]:
    """The names of the files in the build folder, which are up to date then."""
    build.mkdir(parents=True, exist_ok=True)
    manifest, state = build / "manifest.json", fingerprint()
    made = ["template.yaml", "code.zip", "layer.zip", "manifest.json"]
    if all((build / name).exists() for name in made) and json.loads(manifest.read_text())["state"] == state:
        return made
    layer.make(ROOT / "requirements.txt", build / "layer.zip", cache=build / "cache")
    with tempfile.TemporaryDirectory() as folder:
        template = chalice_template(Path(folder))
        pack_code(Path(folder) / "out" / "deployment.zip", build / "code.zip")
    keys = {name: f"sandbar/{_digest(build / name)[:32]}/{name}" for name in ("code.zip", "layer.zip")}
    (build / "template.yaml").write_text(dumped(completed(template, keys)))
    manifest.write_text(json.dumps({"state": state, "keys": keys}, indent=2) + "\n")
    return made


def fingerprint() -> str:
    """The hash of everything that the build is made of."""
    total = hashlib.sha256()
    for path in sorted(_files(*SOURCES, *MADE_BY)):
        total.update(f"{path.relative_to(ROOT)}\0{_digest(path)}\n".encode())
    return total.hexdigest()


def chalice_template(folder: Path) -> Template:
    """What `chalice package` writes for a copy of our code. Our libraries are a layer of their own, so it sees none."""
    for path in _files(*SOURCES):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / "requirements.txt").touch()
    subprocess.run(
        [sys.executable, "-c", "from chalice.cli import main; main()", "package", "--stage", STAGE, "out"],
        cwd=folder,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    template: Template = json.loads((folder / "out" / "sam.json").read_text())
    return template


def completed(template: Template, keys: dict[str, str]) -> Template:
    """Chalice's template with ours over it, the workflows in it, and the code where it will lie."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            # Chalice takes the runtime from the Python that packages; ours are said once, for all functions.
            for name in ("Runtime", "Architectures", "MemorySize"):
                resource["Properties"].pop(name, None)
            resource["Properties"]["CodeUri"] = _in_bucket(keys["code.zip"])
    ours = YAMLTemplateSerializer().load_template((ROOT / "infra" / "template.yaml").read_text())
    whole: Template = merged(template, ours)
    for resource in whole["Resources"].values():
        if uri := resource["Properties"].pop("DefinitionUri", None):
            resource["Properties"]["Definition"] = json.loads((ROOT / "infra" / uri).read_text())
    whole["Resources"]["Front"]["Properties"]["DistributionConfig"]["CacheBehaviors"] = cache_behaviours()
    whole["Resources"]["Libraries"]["Properties"]["ContentUri"] = _in_bucket(keys["layer.zip"])
    return whole


def merged(under: Any, over: Any) -> Any:
    """Objects joined at every depth; of anything else the upper one."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{name: merged(under[name], value) if name in under else value for name, value in over.items()}}


def dumped(template: Template) -> str:
    """As YAML, through JSON, so that nothing occurs twice: CloudFormation takes no aliases."""
    return str(yaml.safe_dump(json.loads(json.dumps(template)), sort_keys=False, width=120))


def pack_code(deployment: Path, target: Path) -> None:
    """Chalice's zip again, so that equal contents are equal bytes."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(deployment, folder)
        pack(Path(folder), target)


def _files(*patterns: str) -> list[Path]:
    found = (path for pattern in patterns for root in ROOT.glob(pattern) for path in [root, *root.rglob("*")])
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _in_bucket(key: str) -> dict[str, Any]:
    return {"Bucket": {"Ref": "CodeBucket"}, "Key": key}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
