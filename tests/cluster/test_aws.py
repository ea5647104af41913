"""cluster.yaml and clusters/aws-access.yaml on a mocked AWS, as far as SSH: what Ray's launcher makes, and may do."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("moto")
pytest.importorskip("boto3")

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "203.0.113.7/32"

# In a process of its own: Ray keeps the clients that it makes, and the mock replaces the network of the whole process.
SCRIPT = """
import json, sys
from pathlib import Path
from unittest.mock import MagicMock

# moto's CloudFormation imports its models of all services, and that of API Gateway this; nothing here uses it.
for name in ("", ".validation", ".validation.exceptions"):
    sys.modules.setdefault(f"openapi_spec_validator{name}", MagicMock())

import boto3, yaml
from moto import mock_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD, NODE_KIND_WORKER, STATUS_UNINITIALIZED, TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from simtune.cluster.launcher_config import launcher_config

root, address = Path(sys.argv[1]), sys.argv[2]
REGION = "us-west-2"


def made(ec2):
    groups = {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    roles = {role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]}
    return sorted(groups), sorted(roles)


with mock_aws():
    ec2 = boto3.client("ec2", REGION)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    boto3.client("ssm", REGION).put_parameter(Name="/image", Value=image, Type="String")
    boto3.client("s3", REGION).create_bucket(
        Bucket="results", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    template = yaml.safe_load((root / "clusters/aws-access.yaml").read_text())
    # Where AWS has an image's id, this AWS has another.
    template["Parameters"]["Image"]["Default"] = "/image"
    stacks = boto3.client("cloudformation", REGION)
    stacks.create_stack(
        StackName="simtune",
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {"Bucket": "results", "SshFrom": address}.items()
        ],
    )
    (stack,) = stacks.describe_stacks(StackName="simtune")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    text = (root / "cluster.yaml").read_text()
    text = text.replace("ami-FILL-IN", outputs["ImageId"]).replace("sg-FILL-IN", outputs["SecurityGroupId"])
    path = Path("filled.yaml")
    path.write_text(text)

    before = made(ec2)
    # As `ray up` does, to the point where it would use SSH.
    config = prepare_config(launcher_config(path, root))
    validate_config(config)
    config = AWSNodeProvider.fillout_available_node_types_resources(config)
    config = AWSNodeProvider.bootstrap_config(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for kind, node_type in ((NODE_KIND_HEAD, "head"), (NODE_KIND_WORKER, "gpu")):
        tags = {
            TAG_RAY_NODE_KIND: kind,
            TAG_RAY_USER_NODE_TYPE: node_type,
            TAG_RAY_NODE_NAME: node_type,
            TAG_RAY_NODE_STATUS: STATUS_UNINITIALIZED,
        }
        node_config = {**config.get("head_node", {}), **config["available_node_types"][node_type]["node_config"]}
        provider.create_node(node_config, tags, 1)
    machines = [machine for found in ec2.describe_instances()["Reservations"] for machine in found["Instances"]]
    (group,) = ec2.describe_security_groups(GroupIds=[outputs["SecurityGroupId"]])["SecurityGroups"]
    iam = boto3.client("iam")
    policies = {}
    for role in ("simtune-head", "simtune-worker"):
        found = []
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            found.append(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)
            found.append(document["PolicyVersion"]["Document"])
        # moto gives the inline policies of a stack as text.
        policies[role] = [yaml.safe_load(document) if isinstance(document, str) else document for document in found]
    print(json.dumps({
        "image": image,
        "group": outputs["SecurityGroupId"],
        "before": before,
        "after": made(ec2),
        "machines": machines,
        "rules": group["IpPermissions"],
        "policies": policies,
        "resources": {name: kind["resources"] for name, kind in config["available_node_types"].items()},
    }, default=str))
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """What is on the mocked AWS after the stack and Ray's launcher have made it."""
    folder = tmp_path_factory.mktemp("aws")
    (folder / ".ray").mkdir()
    (folder / ".ray/auth_token").touch(0o600)
    secrets = {f"AWS_{name}": "testing" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **secrets,
        "AWS_DEFAULT_REGION": "us-west-2",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(ROOT), ADDRESS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_head_and_a_worker_are_made_with_the_image_and_the_group_of_the_stack(launched) -> None:
    assert sorted(machine["InstanceType"] for machine in launched["machines"]) == ["g5.xlarge", "m5.xlarge"]
    for machine in launched["machines"]:
        assert machine["ImageId"] == launched["image"]
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [launched["group"]]
    assert launched["resources"]["gpu"]["GPU"] == 1
    assert launched["resources"]["head"] == {"CPU": 0}


def test_ray_makes_no_role_and_no_group_of_its_own(launched) -> None:
    assert launched["after"] == launched["before"]
    assert "simtune-machines" in launched["before"][0]
    assert launched["before"][1] == ["simtune-head", "simtune-worker"]


def test_every_machine_has_its_profile_and_gives_credentials_to_version_2_requests_only(launched) -> None:
    for machine in launched["machines"]:
        role = "simtune-head" if machine["InstanceType"] == "m5.xlarge" else "simtune-worker"
        assert machine["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/{role}")
        assert machine["MetadataOptions"]["HttpTokens"] == "required"


def test_ssh_is_open_to_one_address_and_everything_else_to_the_group_alone(launched) -> None:
    rules = {rule["IpProtocol"]: rule for rule in launched["rules"]}
    assert set(rules) == {"tcp", "-1"}
    assert (rules["tcp"]["FromPort"], rules["tcp"]["ToPort"]) == (22, 22)
    assert [found["CidrIp"] for found in rules["tcp"]["IpRanges"]] == [ADDRESS]
    assert [pair["GroupId"] for pair in rules["-1"]["UserIdGroupPairs"]] == [launched["group"]]
    assert not rules["-1"]["IpRanges"]


def allowed(policies: list[dict], action: str, resource: str) -> bool:
    """Whether an action is allowed without conditions, as moto judges it."""
    from moto.iam.access_control import IAMPolicy, PermissionResult

    statements = [found for policy in policies for found in policy["Statement"] if "Condition" not in found]
    policy = IAMPolicy(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return policy.is_action_permitted(action, resource) is PermissionResult.PERMITTED


@pytest.mark.parametrize("role", ["simtune-head", "simtune-worker"])
def test_the_bucket_may_be_used_and_no_other(launched, role) -> None:
    policies = launched["policies"][role]
    assert allowed(policies, "s3:ListBucket", "arn:aws:s3:::results")
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"):
        assert allowed(policies, action, "arn:aws:s3:::results/runs/metrics.json")
        assert not allowed(policies, action, "arn:aws:s3:::other/runs/metrics.json")
        assert not allowed(policies, action, "arn:aws:s3:::results-of-others/metrics.json")
    assert not allowed(policies, "s3:ListBucket", "arn:aws:s3:::other")
    for action in ("s3:DeleteBucket", "s3:PutBucketPolicy", "s3:PutBucketAcl"):
        assert not allowed(policies, action, "arn:aws:s3:::results")


def test_a_worker_may_do_nothing_else_and_the_head_may_not_choose_another_role(launched) -> None:
    actions = {
        action
        for policy in launched["policies"]["simtune-worker"]
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {action.partition(":")[0] for action in actions} == {"s3"}
    assert not any("*" in action for action in actions)
    head = [statement for policy in launched["policies"]["simtune-head"] for statement in policy["Statement"]]
    (pass_role,) = [statement for statement in head if "iam:PassRole" in statement["Action"]]
    assert pass_role["Resource"].endswith(":role/simtune-worker")
    (end,) = [statement for statement in head if "ec2:TerminateInstances" in statement["Action"]]
    assert end["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "simtune"}}
    assert not any(
        action.startswith("iam:")
        for statement in head
        for action in statement["Action"]
        if statement is not pass_role and isinstance(statement["Action"], list)
    )
