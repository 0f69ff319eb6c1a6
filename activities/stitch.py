"""The activities `stitch_job`, which proves all chunks of a job and makes its films, and `try_film`."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.activity_context import ActivityTry, activity_edge, attempt_name, open_job, send_heartbeats
from activities.attempts.film_attempt import FilmAttempt
from activities.attempts.film_trial import FilmTrial, describe_failed_trial
from activities.attempts.host import Host
from activities.attempts.proven_chunks import ProvenChunks
from activities.backends.backend import Progress
from activities.errors import AttemptError, AttemptLostError, RefusedError
from activities.job_watch import JobRenderWatcher, JobWatches
from activities.media.images.facts import ImageFacts, ImageProof, find_odd_ones, find_weakest
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.publish import finish_claim, is_intact, revoke_chunk
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, ErrorType
from longtake.models.messages import Heartbeat, StitchOrder, TrialOrder, TrialReport
from longtake.models.status import FilmResult, RenderJobResult
from longtake.names import STITCH_JOB, TRY_FILM
from longtake.ranges import Range, RangeSet, format_ranges
from longtake.stores.job_layout import chunk_key
from longtake.stores.store import map_parallel

# In the result, which stays in the history and in lists.
_MOST_MISSING_RANGES = 50

# A film that fails this often for no fault of its chunks fails the job.
_MOST_TRIES = 3

# Sidecars that are held as objects at once.
_CHUNKS_AT_ONCE = 1000


class StitchActivities:
    """The activities that try and make the films of a job, all of whose outputs are proven first."""

    def __init__(self, host: Host, watches: JobWatches) -> None:
        self._host = host
        self._watches = watches

    @activity.defn(name=STITCH_JOB)
    async def stitch_job(self, order: StitchOrder) -> RenderJobResult:
        """Prove the outputs of all chunks, make the films and return the job's result.

        The files of all chunks are checked before anything is joined; a job without a film ends with that proof.
        Safe to repeat: a published film stands.

        Raises:
            ApplicationError: `StitchRefused`, never retried: the sentence names the chunk and the fix.
        """
        # Errors that are expected are told inside: what passes `activity_edge` as it is counts as unexpected.
        async with activity_edge(Heartbeat(chunk=0)) as this:
            return await self._stitch(order, this)

    @activity.defn(name=TRY_FILM)
    async def try_film(self, order: TrialOrder) -> TrialReport:
        """Make the beginning of the film of one chunk, so that a film that cannot be made fails now and not at the end.

        Raises:
            ApplicationError: `NeedsChange`, never retried: the sentence says what the container or the encoder refuse.
        """
        async with activity_edge(Heartbeat(chunk=order.chunk)) as this:
            return await self._try_film(order, this)

    async def _try_film(self, order: TrialOrder, this: ActivityTry) -> TrialReport:
        label = ""

        def describe(error: Exception) -> str:
            return describe_failed_trial(error, order.chunk, label)

        with _report_failures(this, describe, refused=ErrorType.NEEDS_CHANGE, failed=ErrorType.NEEDS_CHANGE):
            async with send_heartbeats(lambda: this.heartbeat), self._watches.watch() as watch:
                job = await open_job(order.ref, self._host)
                this.check_losses(job.job.retry.lost_workers, "tried the film")
                sidecar = await run_in_thread(partial(job.folder.sidecar, chunk_key(order.chunk)))
                if sidecar is not None:
                    name = attempt_name(f"trial.{activity.info().activity_id}")
                    watcher = JobRenderWatcher(watch, lambda progress: this.update(message=progress.message[:400]))
                    for film in job.films.values():
                        label = film.film_label
                        await FilmTrial(self._host, film, sidecar, name, watcher).try_out()
                return TrialReport()

    async def _stitch(self, order: StitchOrder, this: ActivityTry) -> RenderJobResult:
        label = ""

        def describe(error: Exception) -> str:
            return f"{label or 'the film'} could not be made: {error}"

        with _report_failures(this, describe, refused=ErrorType.STITCH_REFUSED, failed=ErrorType.ATTEMPT_FAILED):
            async with send_heartbeats(lambda: this.heartbeat), self._watches.watch() as watch:
                job = await open_job(order.ref, self._host)
                this.check_losses(job.job.retry.lost_workers, "made the film")
                sidecars = await run_in_thread(partial(prove_chunks, job, RangeSet(order.missing)))
                frames = sidecars.frames
                this.update(frames=frames * max(1, len(job.films)))
                made, failed = [], None
                for number, film in enumerate(job.films.values()):
                    watcher = JobRenderWatcher(watch, partial(_show_progress, this, number * frames))
                    try:
                        made.append(await self._make_film(film, sidecars, watcher))
                    except AttemptError as error:
                        # The other films are made first: they stand, and the next try makes what is missing.
                        failed = failed or (film.film_label, error)
                if failed is not None:
                    label = failed[0]
                    raise failed[1]
                await run_in_thread(job.check_record)
                return await run_in_thread(partial(_build_result, made, sidecars, order.missing))

    async def _make_film(self, film: OpenJob, sidecars: ProvenChunks, watcher: JobRenderWatcher) -> RenderJobResult:
        # A stitch that a pause aborts is begun anew, as another activity.
        name = attempt_name(f"stitch.{activity.info().activity_id}")
        try:
            return await FilmAttempt(self._host, film, sidecars, name, watcher).run()
        except RefusedError as error:
            if not film.film_label:
                raise
            raise RefusedError(f"{film.film_label}: {error}", needs_change=error.needs_change) from error


def _show_progress(this: ActivityTry, before: int, progress: Progress) -> None:
    this.update(frames_done=before + progress.frames_done, message=progress.message[:400])


def _build_result(
    made: Sequence[RenderJobResult], sidecars: ProvenChunks, missing: tuple[Range, ...]
) -> RenderJobResult:
    """Return the result of a job of those with one film each."""
    proofs: set[ImageProof] = set()
    chunks: dict[str, RangeSet] = {}
    for sidecar in sidecars:
        for facts in sidecar.facts:
            if facts.images is not None:
                proofs.add(facts.images.proof)
            if facts.video is not None and facts.video.unproven:
                chunks.setdefault(facts.video.unproven, RangeSet()).add(int(sidecar.key), int(sidecar.key) + 1)
    names = [f"{film.output}: " if len(made) > 1 else "" for film in made]
    unproven = [name + sentence for name, film in zip(names, made, strict=True) for sentence in film.unproven]
    unproven += [f"chunk {format_ranges(found.ranges)}: {reason}" for reason, found in chunks.items()]
    found: dict[str, object] = {
        "missing_chunks": missing[:_MOST_MISSING_RANGES],
        "missing_count": len(RangeSet(missing)),
        "image_proof": find_weakest(proofs) if proofs else "",
        "unproven": tuple(unproven[:20]),
    }
    if len(made) > 1:
        found["films"] = tuple(FilmResult.model_validate(film.model_dump()) for film in made)
    return (made[0] if made else RenderJobResult(frames=sidecars.frames)).model_copy(update=found)


@contextmanager
def _report_failures(
    this: ActivityTry, describe: Callable[[Exception], str], *, refused: ErrorType, failed: ErrorType
) -> Iterator[None]:
    """Raise the errors of the block as failures that Temporal knows, and count the try.

    Args:
        this: The try.
        describe: Returns the sentence of a failed try.
        refused: Type of a refusal, which is never retried, where another job file is not said to be all that mends it.
        failed: Type of a failed try, likewise.
    """
    try:
        yield
    except AttemptLostError as error:
        this.update(losses=this.heartbeat.losses + error.by_render)
        said = f"{error}; the try does not count"
        raise ApplicationError(said, type=ErrorType.ATTEMPT_LOST) from error
    except (RefusedError, BadJobError) as error:
        needs_change = isinstance(error, RefusedError) and error.needs_change
        kind = ErrorType.NEEDS_CHANGE if needs_change else refused
        raise ApplicationError(str(error), type=kind, non_retryable=True) from error
    except AttemptError as error:
        this.update(failures=this.heartbeat.failures + 1)
        final = error.fatal or this.heartbeat.failures >= _MOST_TRIES
        kind = ErrorType.NEEDS_CHANGE if error.needs_change else failed
        raise ApplicationError(describe(error), type=kind, non_retryable=final) from error


def prove_chunks(job: OpenJob, missing: RangeSet) -> ProvenChunks:
    """Return the sidecars of all chunks but the missing ones, their files being there in full size; blocking.

    Raises:
        RefusedError: A chunk was never finished, or its files were damaged since.
        StoreError: The store is away, or this is another one; see `JobFolder.check_store`.
    """
    store = job.folder.store
    numbers = [n for start, stop in missing.gaps(0, len(job.chunks)).ranges for n in range(start, stop)]

    listed, segments = job.folder.list_sidecars(), job.folder.read_segments()

    def look(task: tuple[int, Sidecar | None]) -> tuple[Sidecar | None, bool]:
        chunk, sidecar = task
        if chunk in listed:
            sidecar = job.folder.read_sidecar(chunk_key(chunk))
        if sidecar is None:
            # A worker may have died before it could prove that the files were placed.
            with suppress(AttemptError):
                sidecar = finish_claim(job.folder, chunk_key(chunk))
        return sidecar, sidecar is not None and is_intact(store, sidecar)

    found = ProvenChunks()
    for start in range(0, len(numbers), _CHUNKS_AT_ONCE):
        some = numbers[start : start + _CHUNKS_AT_ONCE]
        found_there = segments.find_placed(some[0], some[-1] + 1)
        tasks = [(chunk, found_there.get(chunk)) for chunk in some]
        for chunk, (sidecar, intact) in zip(some, map_parallel(store, look, tasks), strict=True):
            if sidecar is None or not intact:
                # Of a share that has vanished all are missing, and none is to blame.
                job.check_record()
                path = job.target(job.chunks[chunk].first_output)
                state = "is not finished" if sidecar is None else "is missing or has another size than was published"
                revoke_chunk(job, chunk)
                raise RefusedError(
                    f"no film was made: chunk {chunk} ({path}) {state}; `longtake retry {job.ref.id}` renders it again"
                )
            found.append(sidecar)
    if not found:
        raise RefusedError("no film was made: every chunk failed; `longtake retry` tries them again")
    _check_images(job, found)
    return found


def _check_images(job: OpenJob, sidecars: ProvenChunks) -> None:
    """Compare the image files of all chunks, each output for itself; without a film, of those that lie in one folder.

    Raises:
        RefusedError: A chunk has others than most.
    """
    groups: dict[tuple[int, str], dict[int, ImageFacts]] = defaultdict(dict)
    for sidecar in sidecars:
        for output, found in enumerate(sidecar.facts):
            if found.images is not None:
                chunk = job.chunks[int(sidecar.key)]
                folder = "" if job.job.film_outputs else chunk.templates[output].path.rpartition("/")[0]
                groups[output, folder][chunk.index] = found.images
    odd = {
        chunk: (output, problem)
        for (output, _), facts in groups.items()
        for chunk, problem in find_odd_ones(facts).items()
    }
    if not odd:
        return
    number, (output, problem) = min(odd.items())
    path = job.target(job.chunks[number].first_outputs[output])
    more = f", and {len(odd) - 1} more chunks are unlike the rest" if len(odd) > 1 else ""
    raise RefusedError(
        f"the images of the job do not fit together: chunk {number} ({path}) {problem}{more}; render the job under "
        "another id with one setting for all chunks",
        needs_change=True,
    )
