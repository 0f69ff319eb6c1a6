"""Accepted jobs that no farm knows."""

from pathlib import Path
from typing import Any

from activities.stores.job_folder import JobFolder, OpenJob
from longtake import RenderJobSpec
from longtake.models.messages import JobRef
from longtake.stores.directory import DirectoryStore


def open_job(base_dir: Path, **fields: Any) -> OpenJob:
    """Return a job of these fields whose store is a folder."""
    command = ("render", "{output}", "{start}", "{last}")
    job = RenderJobSpec.model_validate({"command": command, "base_dir": str(base_dir), **fields})
    ref = JobRef(id="job", base_dir=str(base_dir), digest=job.digest())
    return OpenJob(JobFolder(DirectoryStore(base_dir), "job"), ref, job, None)
