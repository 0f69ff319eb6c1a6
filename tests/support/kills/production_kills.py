"""A job in the bucket of a farm whose parts are killed one after the other, and what it had finished at each kill."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from support.farm import Farm, eventually, until_ended_despite_outages
from support.servers.production import jobs_of

from activities.stores.job_folder import JobFolder, encode_record
from deploy.production.component import Component
from deploy.production.farm import ProductionFarm
from longtake import JobHandle, JobState, JobStatus, Retry
from longtake.stores.s3 import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


VICTIMS = ("worker", "temporal", "postgres", "s3")


@dataclass(frozen=True)
class StateAtKill:
    """What was finished when something was killed."""

    victim: str
    # Renders that had begun before this was looked at.
    starts: int
    # Finished chunks and their records.
    sidecars: dict[int, bytes]


class ProductionKills:
    """One job of many short chunks in the farm's bucket.

    Args:
        production: The farm.
        jobs: Means to submit to it.
        chunks: How many chunks the job has.
    """

    def __init__(self, production: ProductionFarm, jobs: Farm, chunks: int) -> None:
        self._production = production
        self._jobs = jobs
        self._chunks = chunks
        self._prefix = f"films/{jobs.store.parent.name}"
        self._bucket = bucket_of(production)
        self.moments: list[StateAtKill] = []

    @classmethod
    async def on(cls, production: ProductionFarm, chunks: int) -> "ProductionKills":
        """Return a job that is yet to be run."""
        return cls(production, await jobs_of(production), chunks)

    async def run(self, victims: tuple[str, ...]) -> JobStatus:
        """Run the job, kill each of the victims at some moment of it, and return how it ended."""
        job = await self._jobs.submit(
            self._jobs.job(
                chunks=self._chunks,
                options=("--seconds", "1"),
                store=f"s3://longtake/{self._prefix}",
                # What is lost with a worker or a server counts for no failed try.
                retry=Retry(attempts=1),
            )
        )
        share = self._chunks / (len(victims) + 1)
        for number, victim in enumerate(victims, start=1):
            wanted = round(number * share)
            await eventually(lambda wanted=wanted: len(self._jobs.ledger.ended) >= wanted, f"{wanted} renders end")  # type: ignore[misc]
            self.moments.append(await asyncio.to_thread(self._look, victim, job))
            await self._kill(victim, number)
        return await until_ended_despite_outages(job)

    def check(self, status: JobStatus) -> None:
        """Fail unless the job completed and nothing that was finished was rendered again."""
        assert (status.state, status.error) == (JobState.COMPLETED, None)
        assert status.completed_chunks == self._chunks
        starts = self._jobs.ledger.started
        last = self._sidecars(status.id)
        assert len(last) == self._chunks
        for seen in self.moments:
            again = set(starts[seen.starts :]) & seen.sidecars.keys()
            assert not again, f"finished before {seen.victim} was killed, and rendered again: {sorted(again)}"
            assert last.items() >= seen.sidecars.items(), f"a sidecar has changed since {seen.victim} was killed"
        outputs = self._keys(f"{self._prefix}/out/")
        assert sorted(outputs) == [f"{self._prefix}/out/{chunk:06}.txt" for chunk in range(self._chunks)]

    def report(self) -> str:
        """Return what was done to whom."""
        killed = ", ".join(f"{seen.victim} at {len(seen.sidecars)} of {self._chunks}" for seen in self.moments)
        more = len(self._jobs.ledger.started) - self._chunks
        return f"killed: {killed} finished chunks; 0 of these rendered again, {more} unfinished ones begun again"

    def _look(self, victim: str, job: JobHandle) -> StateAtKill:
        # First, for what starts while this looks was decided on by what was there before.
        starts = len(self._jobs.ledger.started)
        return StateAtKill(victim, starts, self._sidecars(job.id))

    async def _kill(self, victim: str, number: int) -> None:
        parts: dict[str, Component] = {
            "worker": self._production.workers[number % len(self._production.workers)],
            "temporal": self._production.temporal,
            "postgres": self._production.postgres,
            "s3": self._production.s3,
        }
        await parts[victim].kill()
        await parts[victim].start()

    def _sidecars(self, job_id: str) -> dict[int, bytes]:
        scratch = self._jobs.store.parent / "look"
        store = S3Store(f"s3://longtake/{self._prefix}", self._bucket, scratch=scratch)
        return {int(record.key): encode_record(record) for record in JobFolder(store, job_id).finished_sidecars()}

    def _keys(self, prefix: str) -> dict[str, str]:
        pages = self._bucket.get_paginator("list_objects_v2").paginate(Bucket="longtake", Prefix=prefix)
        return {found["Key"]: found["ETag"] for page in pages for found in page.get("Contents", ())}


def bucket_of(production: ProductionFarm) -> "S3Client":
    """Return a client of the farm's bucket with the rights of its workers."""
    given = production.s3_environment()
    return boto3.session.Session(
        given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], region_name=given["AWS_REGION"]
    ).client("s3", endpoint_url=production.s3_endpoint)
