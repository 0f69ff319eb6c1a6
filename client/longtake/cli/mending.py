"""`retry` and `skip`: what becomes of chunks that failed."""

from typing import Annotated

import typer

from longtake.cli.chunks import chunk_ranges
from longtake.cli.formatting import plural
from longtake.cli.session import run
from longtake.cli.submit import JobId, Json, launch
from longtake.cli.terminal import answer, answer_json, say
from longtake.client import RenderClient
from longtake.errors import BadJobError, JobEndedError
from longtake.handle import JobHandle
from longtake.models.status import JobStatus
from longtake.ranges import shown


def retry(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[
        list[str] | None,
        typer.Option(
            "--chunk",
            metavar="N",
            help="Only this failed or skipped chunk, or 3-7, of a job that has not ended; repeatable.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    json: Json = False,
) -> None:
    """Render what failed once more: finished chunks stay.

    A failed or cancelled job is started again; one that goes on or holds takes up its failed chunks.

    Example: longtake retry film-1a2b3c4d --watch
    """
    chunks = chunk_ranges(chunk or ())

    async def begin(farm: RenderClient) -> JobHandle:
        job = farm.job(id)
        if (await job.status()).state.ended:
            return await farm.retry(id, chunks=chunks)
        count = await job.retry_failed(chunks)
        say(f"{id} takes up {plural(count, 'chunk')} again")
        return job

    try:
        launch(context, begin, watch=watch, json=json)
    except JobEndedError as error:
        say(str(error))
        if json:
            answer_json(run(context, lambda farm: farm.job(id).status()))


def skip(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[
        list[str],
        typer.Option("--chunk", metavar="N", help="Chunk to leave out, or 3-7; repeatable.", show_default=False),
    ],
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="The film may lack them; a job that makes a film needs this.")
    ] = False,
    json: Json = False,
) -> None:
    """Leave chunks out of a job that has not ended: they are not rendered, and the job does not wait for them.

    `longtake retry ID --chunk N` takes one back in.

    Example: longtake skip film-1a2b3c4d --chunk 3 --chunk 7-9 --allow-gaps
    """
    chunks = chunk_ranges(chunk)

    async def work(farm: RenderClient) -> tuple[int, JobStatus]:
        job = farm.job(id)
        try:
            return await job.skip_chunks(chunks, allow_gaps=allow_gaps), await job.status()
        except JobEndedError as error:
            # Unlike a pause that comes too late, this cannot have come about by itself.
            raise BadJobError(str(error)) from error

    count, status = run(context, work)
    if json:
        answer_json(status)
    elif count:
        answer(f"{id} leaves out {plural(count, 'more chunk')}; left out now: {status.left_out_chunks:,}")
    else:
        answer(f"{id} goes on without {shown(chunks)} already")
