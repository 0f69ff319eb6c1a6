"""At the edge of `render_span`: which chunk is blamed for errors that nothing expects."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.attempts.host import Host
from activities.render import RenderActivities
from activities.stores.job_folder import JobFolder
from longtake import FrameRange, RenderJobSpec
from longtake.errors import ErrorType
from longtake.models.messages import Heartbeat, JobRef, SpanOrder, SpanReport
from longtake.stores.directory import DirectoryStore


class BrokenWatches:
    """Watches of jobs that end by an error of their own."""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        raise KeyError("watch")
        yield


class Logged:
    """An attempt of which only the log is known."""

    log = "000005.a.log"


@pytest.mark.parametrize(("unexpected", "is_last"), [(3, False), (9, True)])
async def test_the_last_unexpected_error_blames_the_chunk_at_hand(
    tmp_path: Path, unexpected: int, is_last: bool
) -> None:
    """The workflow knows where the span begins, and that chunk may be published."""
    frames, outputs = FrameRange(count=9, per_chunk=1), "{chunk}.txt"
    job = RenderJobSpec(frames=frames, command=("r", "{output}"), chunk_output=outputs, base_dir=str(tmp_path))
    JobFolder(DirectoryStore(tmp_path), "job").create(job, None)
    ref = JobRef(id="job", base_dir=str(tmp_path), digest=job.digest())
    before = Heartbeat(chunk=5, number=10, ended=True, unexpected=unexpected)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=11, heartbeat_details=(before.model_dump(mode="json"),))
    host = Host(None, None, {}, None, tmp_path)  # type: ignore[arg-type]  # nothing is rendered
    activities = RenderActivities(host, lambda *_: Logged(), BrokenWatches(), None)  # type: ignore[arg-type]

    with pytest.raises(ApplicationError, match="unexpected KeyError: 'watch'") as failed:
        await environment.run(activities.render_span, SpanOrder(ref=ref, start=3, stop=9))

    assert failed.value.non_retryable is is_last
    if is_last:
        (report,) = failed.value.details
        assert failed.value.type == ErrorType.CHUNK_FAILED
        assert isinstance(report, SpanReport)
        assert report.failed == ((5, 6),)
        assert [failure.chunk for failure in report.failures] == [5]
