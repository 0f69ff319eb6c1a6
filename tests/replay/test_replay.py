"""Jobs that run in the field replay with today's workflow; a changed workflow would be caught."""

import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.common import RawValue
from temporalio.worker import Replayer

from longtake.data_converter import data_converter
from longtake.models.status import RenderJobResult
from longtake.names import RENDER_JOB_WORKFLOW
from workflows.render_job import RenderJob

# Of today's workflow; below `first/` of the first one that had users, below `floored/` of the last one whose histories
# were bounded by the number of spans alone, below `untold/` of one that told its farm of no splits, and below
# `resting/` of one that was paused while frozen chunks of it were ended: what ran then must go on.
FOLDER = Path(__file__).with_name("histories")
HISTORIES = sorted(FOLDER.glob("*.json"))
OLD_HISTORIES = sorted(FOLDER.glob("*/*.json"))


def history(path: Path) -> WorkflowHistory:
    text = path.read_text()
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    # What a run hands over to the next names its job.
    return WorkflowHistory.from_json(started.get("workflowId", f"job-{path.stem}"), text)


def test_every_way_a_job_can_end_is_recorded() -> None:
    assert {path.stem for path in HISTORIES} == {
        "cancelled",
        "completed",
        "continued",
        "failed",
        "failed_after_two_passes",
        "film_refused",
        "film_tried",
        "frozen_and_cancelled",
        "frozen_and_stopped",
        "frozen_and_thawed",
        "held_and_skipped",
        "limit_lowered",
        "no_job",
        "paused_and_resumed",
        "refused",
        "report_lost",
        "reported",
        "retried_alone",
        "split",
        "stopped_and_resumed",
        "stopped_and_resumed_on_lambda",
        "taken_back_with_its_wait",
        "told",
    }


@pytest.mark.parametrize("path", HISTORIES + OLD_HISTORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_a_recorded_job_replays(path: Path) -> None:
    replayer = Replayer(workflows=[RenderJob], data_converter=data_converter())

    await replayer.replay_workflow(history(path))


@workflow.defn(name=RENDER_JOB_WORKFLOW, sandboxed=False)
class PlansTwice:
    """A changed RenderJob: it forgets to render."""

    @workflow.run
    async def run(self, document: RawValue) -> RenderJobResult:
        await workflow.sleep(1)
        return RenderJobResult()


async def test_a_changed_workflow_does_not_replay() -> None:
    replayer = Replayer(workflows=[PlansTwice], data_converter=data_converter())
    (path,) = (path for path in HISTORIES if path.stem == "completed")

    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(history(path))
