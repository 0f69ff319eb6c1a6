"""Images and policies of agents: what they hold and allow is what the code needs, and no more."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.settings import AgentSettings

ROOT = Path(__file__).parents[2]
IMAGES = {"aws": "agent.lambda_handler", "gcp": "agent.cloud_run"}
EXTRAS = {"aws": "lambda", "gcp": "cloud-run"}

# Which permission each call of boto3 takes: https://docs.aws.amazon.com/service-authorization/latest/reference/
PERMISSIONS = {
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "get_secret_value": "secretsmanager:GetSecretValue",
    "invoke": "lambda:InvokeFunction",
}

# What Lambda itself does as the function.
OF_THE_PLATFORM = {"logs:CreateLogStream", "logs:PutLogEvents"}
STORES = sorted((ROOT / "client" / "longtake" / "stores").glob("s3*.py"))
CODE = {
    "agent-policy.json": [*STORES, ROOT / "agent" / "settings.py"],
    "worker-policy.json": [*STORES, ROOT / "activities" / "remote" / "aws_lambda.py"],
}


def statements(name: str) -> list[dict[str, Any]]:
    document = json.loads((ROOT / "deploy" / "aws" / name).read_text())
    assert document["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = document["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def calls(paths: list[Path]) -> set[str]:
    """Return the methods of boto3's clients that are called in some files."""
    return {call for path in paths for call in re.findall(r"\b_?client\.([a-z_0-9]+)\(", path.read_text())}


@pytest.mark.parametrize("name", CODE)
def test_a_policy_allows_what_the_code_asks_for_and_no_more(name: str) -> None:
    allowed = {action for statement in statements(name) for action in listed(statement["Action"])}
    needed = {PERMISSIONS[call] for call in calls(CODE[name])}

    assert allowed - OF_THE_PLATFORM == needed
    assert allowed >= OF_THE_PLATFORM or name != "agent-policy.json"


@pytest.mark.parametrize("name", CODE)
def test_a_policy_names_what_it_is_for(name: str) -> None:
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys()
        assert all("*" not in action for action in listed(statement["Action"]))
        for resource in listed(statement["Resource"]):
            assert re.fullmatch(r"SECRET_ARN|arn:aws:[a-z0-9]+:(REGION:ACCOUNT|:):.+", resource), resource
            # All files below the prefix, and all streams of one log; nothing else is left open.
            assert resource.removesuffix("BUCKET/PREFIX/*").removesuffix("longtake-render:*").count("*") == 0


def test_only_lambda_takes_the_role_of_the_function() -> None:
    (statement,) = statements("function-trust-policy.json")

    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "ACCOUNT"}}


def dockerfile(cloud: str) -> str:
    return (ROOT / "deploy" / cloud / "Dockerfile").read_text()


def test_images_hold_all_that_their_agents_import(tmp_path: Path) -> None:
    copied = ["activities", "agent"]
    for cloud in IMAGES:
        assert sorted(re.findall(r"(?m)^COPY (\w+) \1$", dockerfile(cloud).split("\nFROM ")[-1])) == copied, cloud
    for folder in copied:
        shutil.copytree(ROOT / folder, tmp_path / folder)

    # In a folder and with a path of its own: the checkout must not help out.
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import {', '.join(IMAGES.values())}, activities.processes.supervisor_main"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'client'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cloud", IMAGES)
def test_an_image_is_made_of_tested_versions_and_runs_as_nobody_special(cloud: str) -> None:
    text = dockerfile(cloud)

    assert f"-c constraints.txt '.[{EXTRAS[cloud]}]'" in text
    assert all(re.search(r":\d+\.\d+", base) for base in re.findall(r"(?m)^FROM (\S+)", text))
    assert text.count("\nFROM ") == 2
    assert re.search(r"(?m)^USER longtake$", text)
    assert text.index("\nUSER longtake") < text.index("\nENTRYPOINT")
    assert IMAGES[cloud] in text.partition("\nCMD")[2]


@pytest.mark.parametrize("cloud", IMAGES)
def test_the_notes_name_settings_that_there_are(cloud: str) -> None:
    text = (ROOT / "deploy" / cloud / "README.md").read_text()
    of_workers = {"LONGTAKE_LAMBDA_FUNCTIONS", "LONGTAKE_CLOUD_RUN_URLS"}
    known = {f"LONGTAKE_{name.upper()}" for name in AgentSettings.model_fields} | of_workers | {"LONGTAKE_LISTEN"}

    assert set(re.findall(r"LONGTAKE_[A-Z_]+", text)) <= known
    assert ":latest" not in text
