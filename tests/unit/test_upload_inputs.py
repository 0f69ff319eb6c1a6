"""Who starts a job that names no files of its own host needs nothing of the bucket."""

import pytest

from longtake import FrameRange, RenderJobSpec
from longtake.models.inputs import InputBundle
from longtake.transfer.upload_inputs import upload_inputs


@pytest.mark.parametrize("inputs", [(), InputBundle(sha256="a" * 64, files=1, size_bytes=3)])
def test_a_job_without_files_is_started_without_a_look_at_its_bucket(
    monkeypatch: pytest.MonkeyPatch, inputs: object
) -> None:
    # Nobody listens there, and there are no keys: a look would fail.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    job = RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=4, per_chunk=2),
            "command": ("render", "{output}"),
            "chunk_output": "out/{chunk}.txt",
            "base_dir": "/somewhere",
            "store": "s3://films/show",
            "inputs": inputs,
        }
    )

    started = upload_inputs(job)

    assert (started.base_dir, started.inputs) == (None, inputs)
