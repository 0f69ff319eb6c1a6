"""What becomes of a job that has no more use for the trial of its film."""

import asyncio

import pytest
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutError, TimeoutType

from longtake.errors import ErrorType
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobPlan, JobRef
from longtake.names import TRY_FILM
from workflows import options
from workflows.film_trial import TrialRunner


def lost() -> FailureError:
    """Return the end of an activity whose worker is gone."""
    return TimeoutError("activity Heartbeat timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])


def failed(*, for_good: bool) -> FailureError:
    """Return the end of an activity that has raised an error."""
    return ApplicationError("mov cannot hold it", type=ErrorType.NEEDS_CHANGE, non_retryable=for_good)


class TrialActivity(asyncio.Future[object]):
    """An activity that ends otherwise than by its cancel."""

    def cancel(self, msg: object = None) -> bool:
        """Take the request, as a server does."""
        return True


@pytest.fixture
async def activity(monkeypatch: pytest.MonkeyPatch) -> TrialActivity:
    """The activity of the trial; nothing else is asked of a workflow but its patches."""
    handle = TrialActivity()
    monkeypatch.setattr(workflow, "patched", lambda name: True)
    monkeypatch.setattr(workflow, "start_activity", lambda *_, **__: handle)
    monkeypatch.setattr(options, "control_options", dict)
    return handle


def end(activity: TrialActivity, cause: FailureError) -> None:
    error = ActivityError(
        "activity error",
        scheduled_event_id=5,
        started_event_id=6,
        identity="",
        activity_type=TRY_FILM,
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    activity.set_exception(error)


def started_trial() -> TrialRunner:
    job = RenderJobSpec.model_validate(
        {
            "frames": {"count": 4, "per_chunk": 2},
            "command": ["true", "{output}"],
            "chunk_output": "c/{chunk}.mp4",
            "output": "film.mp4",
            "fps": 24,
        }
    )
    plan = JobPlan(ref=JobRef(id="job", base_dir="/store", digest="d"), chunk_count=2, frame_count=4)
    trial = TrialRunner(job, plan, on_ended=lambda: None)
    trial.start(((0, 1),))
    assert not trial.is_idle
    return trial


@pytest.mark.parametrize("cause", [lost(), failed(for_good=False)], ids=["worker lost", "try failed"])
async def test_a_trial_that_was_cancelled_fails_no_job_by_how_it_ended(
    activity: TrialActivity, cause: FailureError
) -> None:
    """Temporal retries no activity that was cancelled: the film is made anyway, and tells."""
    trial = started_trial()
    trial.cancel()
    end(activity, cause)

    trial.settle()

    assert trial.is_idle


async def test_a_verdict_on_the_film_counts_though_the_trial_was_cancelled(activity: TrialActivity) -> None:
    trial = started_trial()
    trial.cancel()
    end(activity, failed(for_good=True))

    with pytest.raises(ActivityError):
        trial.settle()


async def test_a_trial_that_ends_by_itself_fails_the_job(activity: TrialActivity) -> None:
    trial = started_trial()
    end(activity, failed(for_good=True))

    with pytest.raises(ActivityError):
        trial.settle()
