"""Small jobs with a film, in a folder or a bucket, for tests of what becomes of their files."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.farm import Farm, until
from support.s3.server import S3Server
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.service import RPCError, RPCStatusCode

from longtake import JobHandle, JobState, RenderJobSpec
from longtake.stores.factory import open_store
from longtake.stores.store import Store


def read_all_files(url: str, s3_server: S3Server) -> dict[str, bytes]:
    """Return all files of a store, hidden ones and unfinished ones too, by their paths in it; folders end in a /."""
    if not url.startswith("s3://"):
        found = sorted(Path(url).rglob("*"))
        files = {f"{path.relative_to(url)}": path.read_bytes() for path in found if path.is_file()}
        return files | {f"{path.relative_to(url)}/": b"" for path in found if path.is_dir()}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = s3_server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not uploads, f"uploads were begun and never ended: {uploads}"
    return {key.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


MERGE = ("sh", "-c", 'cat out/*.txt > "$1"', "sh", "{output}")


@dataclass
class Place:
    """A store, and a farm whose jobs may use it."""

    farm: Farm
    url: str
    s3_server: S3Server
    look: Path

    @property
    def store(self) -> Store:
        return open_store(self.url, scratch=self.look)

    @property
    def is_bucket(self) -> bool:
        return self.url.startswith("s3://")

    def files(self) -> dict[str, bytes]:
        """Return all that is in the store."""
        return read_all_files(self.url, self.s3_server)

    def job(self, **fields: Any) -> RenderJobSpec:
        """Return a job of three chunks and a film of their texts."""
        place = {"store": self.url, "base_dir": None} if self.is_bucket else {"base_dir": self.url}
        return self.farm.job(**{"chunks": 3, "output": "all.txt", "merge_command": MERGE, **place, **fields})

    async def completed(self, **fields: Any) -> JobHandle:
        """Return such a job when it has completed."""
        return await self.complete(self.job(**fields))

    async def complete(self, job: RenderJobSpec) -> JobHandle:
        handle = await self.farm.submit(job)
        status = await until(handle, lambda status: status.state.has_ended)
        assert status.state is JobState.COMPLETED, status.error
        return handle

    async def forget(self, job: JobHandle) -> None:
        """Let Temporal forget a job, as its retention does in the end."""
        execution = WorkflowExecution(workflow_id=job.id)
        request = DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution)
        await self.farm.client.workflow_service.delete_workflow_execution(request)
        workflow = self.farm.client.get_workflow_handle(job.id)
        async with asyncio.timeout(60):
            try:
                while True:
                    # A status would have a worker replay the job, again and again.
                    await workflow.describe()
                    await asyncio.sleep(0.5)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise


def here(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
