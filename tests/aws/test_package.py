"""What is deployed: whole, within AWS's quotas, the same every time, and true to the code that uses it."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cfnlint
import pytest
import yaml
from pynamodb.models import Model

from chalicelib import gateway
from chalicelib.aws import tables
from chalicelib.core.states import WORKFLOW
from chalicelib.dialect import SLOT, Dialect, Relay, Route
from infra import behaviours, layer, package

ROOT = Path(__file__).parents[2]
MB = 1_000_000


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of our own; the layer comes from the common cache where it is there."""
    folder = tmp_path_factory.mktemp("build")
    cache = ROOT / "build" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (folder / "cache").symlink_to(cache)
    package.package(folder)
    return folder


@pytest.fixture(scope="session")
def template(build: Path) -> dict[str, Any]:
    """The packaged template. JSON is YAML, and this has no short forms."""
    read: dict[str, Any] = yaml.safe_load((build / "template.yaml").read_text())
    return read


def of_type(template: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] == kind}


def everything_in(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from everything_in(one)


# ---------------------------------------------------------------- the template as a whole


def test_cloudformation_has_nothing_to_object_to(build: Path) -> None:
    found = cfnlint.lint_file(build / "template.yaml")

    assert [f"{one.rule.id} {one.message}" for one in found if one.rule.id.startswith("E")] == []


def test_the_template_can_be_deployed_from_s3(build: Path) -> None:
    assert (build / "template.yaml").stat().st_size <= MB


def test_api_gateway_has_room_for_the_routes(template: dict[str, Any]) -> None:
    paths = of_type(template, "AWS::Serverless::Api")["RestAPI"]["DefinitionBody"]["paths"]
    resources = {tuple(path.split("/")[:depth]) for path in paths for depth in range(2, path.count("/") + 2)}

    assert len(resources) <= 300
    assert {f"/{name}/{{path+}}" for name in gateway.DIALECTS} <= set(paths)


def test_what_is_referred_to_by_name_alone_is_named_so(template: dict[str, Any]) -> None:
    names = {
        one["StateMachineName"]["Fn::Sub"] for one in of_type(template, "AWS::StepFunctions::StateMachine").values()
    }

    assert names == {f"${{AWS::StackName}}-{workflow}" for workflow in WORKFLOW.values()}


def test_every_substitution_in_a_workflow_is_given(template: dict[str, Any]) -> None:
    for machine in of_type(template, "AWS::StepFunctions::StateMachine").values():
        wanted = set(re.findall(r"\$\{(\w+)\}", json.dumps(machine["Definition"])))

        assert wanted == set(machine["DefinitionSubstitutions"])


def test_every_function_keeps_its_log_for_a_while_only(template: dict[str, Any]) -> None:
    functions = {one["FunctionName"]["Fn::Sub"] for one in of_type(template, "AWS::Serverless::Function").values()}
    logs = of_type(template, "AWS::Logs::LogGroup").values()

    assert {f"/aws/lambda/{name}" for name in functions} <= {log["LogGroupName"]["Fn::Sub"] for log in logs}
    assert all("RetentionInDays" in log for log in logs)


def test_functions_run_what_was_packaged_on_a_current_runtime(build: Path, template: dict[str, Any]) -> None:
    keys = json.loads((build / "manifest.json").read_text())["keys"]
    common = template["Globals"]["Function"]

    for function in of_type(template, "AWS::Serverless::Function").values():
        assert function["CodeUri"] == {"Bucket": {"Ref": "CodeBucket"}, "Key": keys["code.zip"]}
        assert not {"Runtime", "Architectures", "MemorySize"} & set(function)
    assert common["Runtime"] == "python3.13"
    assert common["Layers"] == [{"Ref": "Libraries"}]


# ---------------------------------------------------------------- what must not be lost or read


@pytest.mark.parametrize("name", ["Sandboxes", "Names", "Keys"])
def test_tables_outlive_the_stack_and_can_be_brought_back(template: dict[str, Any], name: str) -> None:
    table = template["Resources"][name]

    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def test_tombstones_go_by_themselves(template: dict[str, Any]) -> None:
    wanted = {"AttributeName": "expires", "Enabled": True}

    assert template["Resources"]["Tombstones"]["Properties"]["TimeToLiveSpecification"] == wanted


def test_checkpoints_are_private(template: dict[str, Any]) -> None:
    bucket = template["Resources"]["Checkpoints"]

    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["DeletionPolicy"] == "Retain"


def test_a_sandbox_has_no_rights_of_its_own(template: dict[str, Any]) -> None:
    (task,) = [one for name, one in of_type(template, "AWS::ECS::TaskDefinition").items() if name == "SandboxTask"]

    assert "TaskRoleArn" not in task
    assert task["ContainerDefinitions"][0]["LinuxParameters"] == {"InitProcessEnabled": True}
    assert not task["ContainerDefinitions"][0].get("Privileged")


def test_nothing_reaches_sandboxes_but_functions_and_edge_at_one_port(template: dict[str, Any]) -> None:
    rules = template["Resources"]["SandboxSecurityGroup"]["Properties"]["SecurityGroupIngress"]

    assert {(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in rules} == {(2280, 2280, "tcp")}
    assert {rule["SourceSecurityGroupId"]["Fn::GetAtt"][0] for rule in rules} == {
        "FunctionSecurityGroup",
        "EdgeSecurityGroup",
    }


MAY_BE_ANYWHERE = {
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
    "ecr:GetAuthorizationToken",
    "ecs:ListTasks",  # restricted to the cluster by its condition
    "states:SendTaskSuccess",  # IAM knows no resource for these: a task token is a right by itself
    "states:SendTaskFailure",
}


def test_every_right_names_what_it_is_a_right_to(template: dict[str, Any]) -> None:
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                assert not [action for action in actions if "*" in action], name
                assert statement["Resource"] != "*" or set(actions) <= MAY_BE_ANYWHERE, name


def test_tasks_are_run_of_our_family_in_our_cluster_alone(template: dict[str, Any]) -> None:
    statements = template["Resources"]["WorkflowsRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    by_action = {one["Action"]: one for one in statements}

    assert by_action["ecs:RunTask"]["Resource"]["Fn::Sub"].endswith(":task-definition/${AWS::StackName}-sandbox:*")
    assert by_action["ecs:RunTask"]["Condition"] == {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}}}
    assert by_action["iam:PassRole"]["Resource"] == {"Fn::GetAtt": ["SandboxExecutionRole", "Arn"]}


# ---------------------------------------------------------------- true to the code


@pytest.mark.parametrize("model", [tables.SandboxRow, tables.NameRow, tables.KeyRow, tables.TombstoneRow])
def test_a_table_has_the_keys_and_indexes_that_its_model_has(template: dict[str, Any], model: type[Model]) -> None:
    names = {"SandboxRow": "Sandboxes", "NameRow": "Names", "KeyRow": "Keys", "TombstoneRow": "Tombstones"}
    table = template["Resources"][names[model.__name__]]["Properties"]
    schema = model._get_schema()

    def keys(declared: Sequence[Any]) -> set[tuple[str, str]]:
        return {(one["AttributeName"], one["KeyType"]) for one in declared}

    wanted = {one["index_name"]: keys(one["key_schema"]) for one in schema["global_secondary_indexes"]}
    assert keys(table["KeySchema"]) == keys(schema["key_schema"])
    assert {one["IndexName"]: keys(one["KeySchema"]) for one in table.get("GlobalSecondaryIndexes", [])} == wanted
    assert {(one["AttributeName"], one["AttributeType"]) for one in table["AttributeDefinitions"]} == {
        (one["AttributeName"], one["AttributeType"]) for one in schema["attribute_definitions"]
    }


def test_the_environment_says_all_that_wiring_reads(template: dict[str, Any]) -> None:
    read = set(re.findall(r"environ(?:\.get\(|\[)\"(SANDBAR_\w+)\"", (ROOT / "chalicelib" / "wiring.py").read_text()))
    said = set(template["Globals"]["Function"]["Environment"]["Variables"])

    assert read - said == {"SANDBAR_SECRET"}  # never in a template: it is read from Secrets Manager


def test_nothing_in_the_template_is_a_secret_or_a_place_of_ours(build: Path) -> None:
    text = (build / "template.yaml").read_text()

    assert not re.findall(r"\d{12}|AKIA\w+|/work/|/root/|/home/\w+/", text)


def test_cloudfront_hands_the_edge_what_the_tables_say_it_serves_and_nothing_else(template: dict[str, Any]) -> None:
    config = template["Resources"]["Front"]["Properties"]["DistributionConfig"]
    patterns = [behaviour["PathPattern"] for behaviour in config["CacheBehaviors"]]

    for dialect in map(gateway.dialect_named, gateway.DIALECTS):
        for route in dialect.routes:
            path = f"/{dialect.name}" + SLOT.sub("some-value", route.path)
            assert any(behaviours.matches(pattern, path) for pattern in patterns) == route.on_edge, path


def test_cloudfront_has_room_for_the_patterns(template: dict[str, Any]) -> None:
    assert len(template["Resources"]["Front"]["Properties"]["DistributionConfig"]["CacheBehaviors"]) <= 25


def test_a_pattern_is_no_wider_than_it_may_be() -> None:
    def dialect(*routes: Route) -> Dialect:
        return Dialect("tiny", routes, error=lambda *_: {})

    streams, acts = Relay("GET", "/"), (lambda *_: None)
    clear = dialect(Route("GET", "/box/{id}/files/{path}", streams), Route("GET", "/boxes", acts))
    mixed = dialect(
        Route("GET", "/box/{id}/files", streams), Route("GET", "/box/{id}", acts), Route("GET", "/x/y/z", acts)
    )
    hopeless = dialect(Route("GET", "/box/{id}/{file}", streams), Route("GET", "/box/{id}/stop", acts))

    assert behaviours.edge_patterns([clear]) == ["/tiny/box/*"]
    assert behaviours.edge_patterns([mixed]) == ["/tiny/box/*/*"]
    with pytest.raises(ValueError, match="no pattern tells"):
        behaviours.edge_patterns([hopeless])


def test_the_edge_is_told_all_that_it_reads(template: dict[str, Any]) -> None:
    said = {
        one["Name"] for one in template["Resources"]["EdgeTask"]["Properties"]["ContainerDefinitions"][0]["Environment"]
    }
    functions = set(template["Globals"]["Function"]["Environment"]["Variables"])

    assert said >= {"SANDBAR_HOST", "SANDBAR_PORT", "SANDBAR_API"}
    # The edge creates nothing, so it counts nothing and tells of nothing.
    counting = {"SANDBAR_QUOTA", "SANDBAR_AUDIT_DAYS"}
    assert functions - said == {"SANDBAR_CONTROL", "SANDBAR_WARM", "POWERTOOLS_LOG_LEVEL"} | counting


# ---------------------------------------------------------------- the zips


def test_the_code_is_small_and_holds_only_what_runs(build: Path) -> None:
    names = zipfile.ZipFile(build / "code.zip").namelist()

    assert (build / "code.zip").stat().st_size <= MB
    assert {name.split("/")[0] for name in names} == {"app.py", "chalice", "chalicelib"}
    assert not [name for name in names if "__pycache__" in name or "test" in name or name.endswith((".pyc", ".md"))]


def test_the_layer_is_small_and_holds_the_services_that_we_speak_to(build: Path) -> None:
    names = zipfile.ZipFile(build / "layer.zip").namelist()
    services = {
        name.split("/")[3] for name in names if name.startswith("python/botocore/data/") and name.count("/") > 4
    }

    assert (build / "layer.zip").stat().st_size <= 8 * MB
    assert services == layer.SERVICES
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


ALL_IN = """
import sys
sys.path[:0] = sys.argv[1:]
import app
from chalicelib.aws.clients import Clients
from chalicelib.wiring import world
world()
clients = Clients()
print([clients[service].meta.service_model.service_name for service in {services!r}])
app.journal.log.info("it works")
app.journal.metrics.add_metric(name="works", unit="Count", value=1)
app.journal.metrics.flush_metrics()
"""


def test_code_and_layer_need_nothing_else(build: Path, tmp_path: Path) -> None:
    for name in ("code", "layer"):
        zipfile.ZipFile(build / f"{name}.zip").extractall(tmp_path / name)
    services = sorted(layer.SERVICES)
    said = {"PATH": "/usr/bin", "AWS_DEFAULT_REGION": "us-east-1", "SANDBAR_SECRET": "s" * 32}
    said |= {f"SANDBAR_{name}": "any" for name in ("TABLES", "BUCKET", "CLUSTER", "WORKFLOWS", "URL")}
    program = [sys.executable, "-I", "-S", "-c", ALL_IN.format(services=services)]

    done = subprocess.run(
        [*program, tmp_path / "code", tmp_path / "layer" / "python"], env=said, capture_output=True, text=True
    )

    assert done.stderr == ""
    assert str(services) in done.stdout


def test_what_is_made_twice_is_the_same(build: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(build / "cache")

    package.package(tmp_path)

    for name in ("template.yaml", "code.zip", "layer.zip", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (build / name).read_bytes()


def test_nothing_is_made_where_nothing_has_changed(build: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in build.iterdir()}

    package.package(build)

    assert {path.name: path.stat().st_mtime_ns for path in build.iterdir()} == before


def test_objects_are_merged_and_all_else_is_replaced() -> None:
    under = {"a": {"b": 1, "c": [1, 2]}, "d": 1}

    assert package.merged(under, {"a": {"c": [3]}, "e": 2}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}
