"""What any program or person may send to a job is taken or refused in a sentence: inputs, requests, results."""

import asyncio
import itertools
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from support.farm import Farm, until, until_state
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    RespondActivityTaskCompletedByIdRequest,
    SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from longtake import JobFailedError, JobHandle, JobState, Retry
from longtake.models.messages import SpanReport
from longtake.names import RENDER_JOB_WORKFLOW

pytestmark = pytest.mark.integration


def payload(data: bytes, encoding: str | None = "json/plain") -> Payload:
    return Payload(metadata={} if encoding is None else {"encoding": encoding.encode()}, data=data)


KEYS = {"name": "x", "frames": {"count": 1}, "command": ["sh", "{output}"], "chunk_output": "a.txt"}
GOOD = json.dumps(KEYS).encode()
MANY = json.dumps({"chunks": [{"start": i, "count": 1, "command": ["true"], "output": f"{i}"} for i in range(20_000)]})

INPUTS: dict[str, tuple[Sequence[Payload], str]] = {
    "none": ((), "no input was given; start the job with one JSON object"),
    "two": ((payload(GOOD), payload(GOOD)), "2 inputs were given; start the job with one JSON object"),
    "two, broken": ((payload(b"{"), payload(b"{")), "2 inputs were given"),
    "empty": ((payload(b""),), "the input is not JSON in UTF-8; start"),
    "broken": ((payload(b'{"name": '),), "the input is not JSON in UTF-8; start"),
    "byte order mark": ((payload(b"\xef\xbb\xbf" + GOOD),), "the input is not JSON in UTF-8; start"),
    "latin 1": ((payload(b'{"name": "\xe9"}'),), "the input is not JSON in UTF-8; start"),
    "null": ((payload(b"null"),), "must be an object"),
    "binary null": ((payload(b"", "binary/null"),), "must be an object"),
    "a list": ((payload(b"[]"),), "must be an object"),
    "bytes": ((payload(GOOD, "binary/plain"),), "must be an object"),
    "encrypted": ((payload(GOOD, "binary/encrypted"),), "it is encrypted, and no codec is set here; set LONGTAKE"),
    "zlib": ((payload(GOOD, "binary/zlib"),), "has the encoding 'binary/zlib', and json/plain is read"),
    "protobuf": ((payload(GOOD, "json/protobuf"),), "has the encoding 'json/protobuf', and json/plain is read"),
    "no encoding": ((payload(GOOD, None),), "has no encoding"),
    "20,000 chunks": ((payload(MANY.encode()),), "write its chunks into a job file that"),
}


# Nine characters that `re` searches in an empty line for ever, and classes of which it compiles the 198 of a pattern in
# half a second or more, each pattern anew.
ENDLESS = r"(|){33}\b"
COSTLY = ["(?i)" + "[\x00-\uffff]" * 198 + str(number) for number in range(60)]

PATTERNS: dict[str, tuple[dict[str, Any], str]] = {
    "a fatal line": ({"progress": {"fatal_patterns": [ENDLESS]}}, "progress.fatal_patterns[0]"),
    "a rule": ({"retry": {"rules": [{"pattern": ENDLESS}]}}, "retry.rules[0].pattern"),
    "a fatal pattern": ({"retry": {"fatal_patterns": ["ok", ENDLESS]}}, "retry.fatal_patterns[1]"),
    "progress": ({"progress": {"patterns": [f"(?P<frame>{ENDLESS})"]}}, "progress.patterns[0]"),
    "costly classes": ({"retry": {"fatal_patterns": COSTLY}}, "retry.fatal_patterns["),
}


async def start(farm: Farm, inputs: Sequence[Payload]) -> JobHandle:
    """Start a job as any client may, by the wire alone."""
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    await farm.client.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace=farm.client.namespace,
            workflow_id=job_id,
            workflow_type=WorkflowType(name=RENDER_JOB_WORKFLOW),
            task_queue=TaskQueue(name=farm.task_queue),
            input=Payloads(payloads=inputs),
            request_id=job_id,
        )
    )
    return farm.render.job(job_id)


async def signal(farm: Farm, job: JobHandle, name: str, inputs: Sequence[Payload]) -> None:
    await farm.client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace=farm.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=job.id),
            signal_name=name,
            input=Payloads(payloads=inputs),
        )
    )


async def failure_of(job: JobHandle) -> str:
    """Return the sentence that a job ends with."""
    async with asyncio.timeout(30):
        with pytest.raises(JobFailedError) as failed:
            await job.result()
    return str(failed.value)


async def test_an_input_that_is_no_job_ends_it_with_a_sentence(farm: Farm) -> None:
    for name, (inputs, sentence) in INPUTS.items():
        job = await start(farm, inputs)
        failure = await failure_of(job)

        assert sentence in failure, name
        assert "\n" not in failure, name
        status = await job.status()
        assert (status.state, status.error) == (JobState.FAILED, failure), name


@pytest.mark.slow
async def test_a_pattern_that_never_ends_ends_its_job_and_stops_no_other(farm: Farm) -> None:
    other = await farm.started(chunks=1, running=1)
    for name, (keys, field) in PATTERNS.items():
        failure = await failure_of(
            await start(farm, (payload(json.dumps(KEYS | {"base_dir": str(farm.store)} | keys).encode()),))
        )

        assert failure.startswith(field), name
        assert "takes too long on an empty line already; simplify it" in failure, name
        assert (await other.status()).state is JobState.RUNNING, name
    farm.open_gate()
    assert (await until_state(other, JobState.COMPLETED)).notices == ()


PAUSES: dict[str, tuple[Sequence[Payload], str]] = {
    "misspelt mode": ((payload(b'{"mode": "freze"}'),), "mode: is 'freze'; choose"),
    "a capital key": ((payload(b'{"Mode": "freeze"}'),), "Mode: is not a key of this request; did you mean mode?"),
    "a number": ((payload(b"5"),), "the argument is 5"),
    "a wrong type": ((payload(b'{"mode": 1}'),), "mode: is 1; choose"),
    "broken": ((payload(b"{"),), "the argument is not JSON in UTF-8"),
    "two": ((payload(b'"now"'), payload(b'"now"')), "2 arguments were given; give one, with mode"),
    "encrypted": ((payload(b"x", "binary/encrypted"),), "is encrypted"),
}


async def test_a_pause_that_cannot_be_read_is_told_in_the_status_and_changes_nothing(farm: Farm) -> None:
    job = await farm.started()
    for inputs, sentence in PAUSES.values():
        await signal(farm, job, "pause", inputs)
        status = await until(job, lambda status, sentence=sentence: sentence in "".join(status.notices[-1:]))  # type: ignore[misc]
        assert status.notices[-1].startswith("a signal pause was ignored: ")
        assert status.state is JobState.RUNNING
        assert status.pause_mode is None
    await signal(farm, job, "resume", (payload(b"1"), payload(b"2")))

    farm.open_gate()
    await until_state(job, JobState.COMPLETED)


UPDATES = ("pause", "set_max_parallel", "retry_failed", "skip_chunks")
MISFITS: tuple[Any, ...] = (7, {"Mode": 1}, {"chunks": "all"}, {"mode": []}, [[1]])


async def test_an_update_that_does_not_fit_is_refused_in_one_sentence(farm: Farm) -> None:
    job = await farm.started()
    handle = farm.client.get_workflow_handle(job.id)

    for update, argument in itertools.product(UPDATES, MISFITS):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(update, argument)

        cause = refused.value.cause
        assert isinstance(cause, ApplicationError), (update, argument)
        assert "\n" not in cause.message, (update, argument)
        assert len(cause.message) < 200, (update, argument)
        assert "validation error" not in cause.message, (update, argument)
    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).notices == ()


async def test_pause_and_resume_are_updates_with_an_answer_too(farm: Farm) -> None:
    job = await farm.started()
    handle = farm.client.get_workflow_handle(job.id)

    assert await handle.execute_update("pause") == "drain"
    assert await handle.execute_update("pause", "freeze") == "freeze"
    assert await handle.execute_update("pause", {"mode": "drain"}) == "freeze", "a pause is only hardened"
    await until_state(job, JobState.PAUSED)
    assert await handle.execute_update("resume") is True
    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).notices == ()


BAD_REPORTS = {
    name: {name: value}
    for name, value in {
        **dict.fromkeys(SpanReport.model_fields, "a word where none belongs"),
        "done": [[0, 1, 2]],
        "failures": [{"chunk": -1}],
    }.items()
}


async def complete_by_hand(farm: Farm, job: JobHandle, result: Payload | None) -> None:
    """Complete the first render of a job with a result, as `temporal activity complete` does."""
    description = await farm.client.get_workflow_handle(job.id).describe()
    (activity_id,) = (each.activity_id for each in description.raw_description.pending_activities)
    await farm.client.workflow_service.respond_activity_task_completed_by_id(
        RespondActivityTaskCompletedByIdRequest(
            namespace=farm.client.namespace,
            workflow_id=job.id,
            activity_id=activity_id,
            result=None if result is None else Payloads(payloads=[result]),
        )
    )


@pytest.mark.slow
async def test_a_result_by_hand_that_is_no_report_gives_the_span_back(farm: Farm) -> None:
    """One job, whose render is completed with each of them in turn."""
    bad = [payload(json.dumps(report).encode()) for report in BAD_REPORTS.values()]
    job = await farm.started(chunks=1, running=1)
    told = [""]
    for count, result in enumerate([None, payload(b"null"), payload(b"{"), payload(b"x", "binary/zlib"), *bad], 2):
        await complete_by_hand(farm, job, result)
        await farm.ledger.until_started(count)
        told.append((await job.status()).notices[-1])
        assert "was completed with what is no SpanReport" in told[-1], result
        assert told[-1] != told[-2], "it names another activity"

    farm.open_gate()
    await until_state(job, JobState.COMPLETED)


async def test_a_span_that_somebody_fails_by_hand_costs_no_published_chunk(farm: Farm) -> None:
    """The first chunk of the span counts as failed where it is not published, and those after it are rendered."""
    job = await farm.started(chunks=3, running=1, allow_gaps=True, on_chunk_failure="continue", retry=Retry(attempts=1))
    description = await farm.client.get_workflow_handle(job.id).describe()
    (pending,) = description.raw_description.pending_activities
    handle = farm.client.get_async_activity_handle(
        workflow_id=job.id, run_id=description.run_id, activity_id=pending.activity_id
    )
    await handle.fail(ApplicationError("by hand", non_retryable=True))

    farm.open_gate()
    status = await until(job, lambda status: status.state.has_ended)
    assert (status.completed_chunks, status.failed_chunks) == (2, 1)
    assert [failure.error for failure in status.failures] == ["by hand"]
