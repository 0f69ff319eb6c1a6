"""One attempt at one chunk on this host: render, check and publish."""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from activities.attempts.attempt import Bill
from activities.attempts.finished_frames import FinishedFrameScanner, WholeFrameScanner
from activities.attempts.frame_sequence import CommandWatcher, SequenceRender
from activities.attempts.host import Host, attempt_tag
from activities.attempts.name_hints import explain_names
from activities.attempts.output_check import OutputCheck, Proof, check_chunk, check_undeclared, failed_try
from activities.attempts.output_files import OtherFiles, UndeclaredFiles, sign_outputs
from activities.attempts.pictures import ChunkPictures
from activities.attempts.store_io import (
    explain_failure,
    make_log_folder,
    note_full_disk,
    retry_while_store_is_away,
    ship_log,
)
from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.errors import AttemptError
from activities.media.facts import MismatchedOutput
from activities.media.join import find_join_problem
from activities.processes.render_process import Usage
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.kept_frames import KeptFrames, Signature
from activities.stores.publish import discard_attempt, finish_claim, publish, stage_files
from longtake.chunks import Chunk
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.models.policies import ProgressSpec, ResumeUnit
from longtake.models.sessions import format_request
from longtake.models.status import RemoteStop
from longtake.paths import OutputKind
from longtake.stores.directory import restore_access
from longtake.stores.job_layout import chunk_key
from longtake.stores.store import find_away_error
from longtake.templates import expand_template

_log = logging.getLogger(__name__)


class ChunkAttempt:
    """One attempt at a chunk by processes of this host, in a folder of its own.

    Args:
        host: The host that renders.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """

    # A cancel ends here only when nothing runs any more.
    stop: RemoteStop | None = None
    is_begun = False

    def __init__(self, host: Host, job: OpenJob, chunk: Chunk, name: str) -> None:
        self._host = host
        self._job = job
        self._chunk = chunk
        self.name = name
        self._key = chunk_key(chunk.index)
        self._folder = job.folder
        self._segment = host.segment
        self._store = job.folder.store
        self._place = job.folder.attempt_dir(self._key, name)
        self._dir = self._store.local(self._place)
        self._workdir = self._dir
        self._kept = KeptFrames(self._folder, self._key)
        self._runs: SequenceRender | None = None
        # Files that no output declares and that `also` asks for, with the locations where they are published.
        self._undeclared: dict[Path, str] = {}
        # Until they are kept, or something says that no frame of this attempt can be trusted.
        self._keeps_frames = True
        self._used = Usage()
        self.log = self._folder.log_path(self._key, name)
        self._others = OtherFiles(self._folder, self._key, self._dir, self.log)

    @cached_property
    def _targets(self) -> list[str]:
        """Final locations of the outputs; made in a thread, because there may be 100,000."""
        return [self._job.target(path) for path in self._chunk.outputs()]

    @property
    def _local_targets(self) -> list[Path]:
        """Where a command writes that names its outputs itself; only directory stores have such jobs."""
        return list(map(Path, self._targets))

    async def bill(self) -> Bill:
        """Return an empty bill: hosts of one's own send none."""
        return Bill()

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; finishes what a dead winner began to publish."""
        if self._segment is not None:
            return await run_in_thread(partial(self._segment.finish, self._key))
        return await run_in_thread(partial(finish_claim, self._folder, self._key))

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        """Render, check and publish the chunk; return the sidecar that stands.

        Finished frames of an image sequence are kept whatever happens, and none that is kept is rendered again.
        A cancel stops the processes first and leaves nothing else behind but the log.

        Args:
            watcher: Called with the progress of the chunk, frames that were kept before included.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: The try ended through no fault of its own, or the store is away.
        """
        try:
            try:
                async with (
                    self._host.inputs.lay_out_in_thread(self._job) as self._workdir,
                    nullcontext() if self._store.is_local else ship_log(self._store, self.log),
                ):
                    return await self._run(watcher)
            finally:
                await clean_up_in_thread(self._clean_up)
        except (AttemptError, OSError) as error:
            failure: AttemptError | OSError = error
            try:
                if (standing := await self.published()) is not None:
                    # Another attempt was quicker, and has cleared this one's files away.
                    return standing
            except OSError as away:
                failure = away if find_away_error(away) is not None else error
            raise await explain_failure(failure, self._folder, self._dir) from error

    async def _run(self, watcher: RenderWatcher) -> Sidecar:
        began = time.monotonic()
        try:
            in_sequence = self._chunk.kind is OutputKind.FRAMES and not self._chunk.writes_in_place
            made = await (self._render_frames(watcher) if in_sequence else self._render_whole(watcher))
            publish_proven, published = await self._prove(made, began)
            await self._run_own_check(watcher)
        except AttemptError as error:
            # Before the files that no output declares are moved.
            await run_in_thread(self._keep_frames)
            await run_in_thread(partial(note_full_disk, error, self._dir))
            await run_in_thread(partial(self._others.blame, error, self._expected_files, self._part_places))
            raise
        if isinstance(published, Sidecar):
            return published
        if published is not None and (isinstance(published, AttemptError) or find_away_error(published) is None):
            raise published
        done = Progress(frames_done=self._chunk.count, usage=self._used)
        return await retry_while_store_is_away(
            partial(publish_proven, time.monotonic() - began),
            lambda message: watcher.on_progress(replace(done, message=message)),
        )

    def _check_places(self) -> None:
        """Raise unless outputs may be published where they belong, and open what an earlier try has closed."""
        self._host.check_targets(self._job, self._targets)
        if self._store.is_local:
            make_log_folder(self._store, self.log)
            # The renderer of another try may have closed the folder around its own.
            for folder in (self._dir.parent.parent, self._dir.parent):
                restore_access(str(folder))
        else:
            self._others.watch(self._workdir)

    async def _prove(
        self, made: list[Path], began: float
    ) -> tuple[Callable[[float], Sidecar], Sidecar | OSError | AttemptError | None]:
        """Check the outputs, and publish them in the same thread unless the job has a check of its own.

        Returns:
            What publishes the outputs, given the seconds of the render; and the sidecar, or the error of the first try.
        """
        stop = threading.Event()

        def prove() -> Callable[[float], Sidecar]:
            self._undeclared = self._find_undeclared()
            signatures = sign_outputs([*made, *self._undeclared], self._dir)
            try:
                rate, pixels = self._job.job.rate, self._job.job.check_pixels
                seconds = time.monotonic() - began
                proofs = check_chunk(self._chunk, made, rate, stop, pixels=pixels, render_seconds=seconds)
                check_undeclared(list(self._undeclared), stop)
                self._check_for_film(made, proofs)
                return partial(self._publish, made, proofs, signatures)
            except AttemptError as error:
                self._keep_frames()
                self._others.blame(error, self._expected_files, self._part_places)
                explain_names(error, self._chunk, made, self._others, self._job.job.output_field)
                raise

        def prove_and_publish() -> tuple[Callable[[float], Sidecar], Sidecar | OSError | AttemptError | None]:
            publish_proven = prove()
            if self._job.job.check is not None:
                return publish_proven, None
            try:
                return publish_proven, publish_proven(time.monotonic() - began)
            except (OSError, AttemptError) as error:
                return publish_proven, error

        try:
            return await run_in_thread(prove_and_publish, stop)
        except AttemptError:
            if self._job.job.check_pixels:
                # Frames are kept by their structure; those that cannot be decoded would be refused again and again.
                await self._forget_kept_frames()
            raise

    def _find_undeclared(self) -> dict[Path, str]:
        """Find the files that no output declares and that `also` names, and where they are published."""
        if not self._job.job.also:
            return {}
        if self._runs is not None:
            found = self._runs.undeclared
        else:
            found = UndeclaredFiles(self._job, self._chunk).find(self._dir, self._expected_files)
        return {file: self._job.target(name) for name, file in found.items()}

    def _check_for_film(self, made: list[Path], proofs: tuple[Proof, ...]) -> None:
        """Refuse a video now that no film can be joined of, or of which a film would lose something."""
        for job in self._job.job.films:
            proof, file = proofs[job.film_source], made[job.film_source * self._chunk.files_per_output]
            if proof.video is None or job.merge_command is not None:
                continue
            problem = find_join_problem(proof.video, drop=job.drop, has_audio=job.audio is not None)
            if problem is not None:
                raise failed_try(MismatchedOutput(file.name, problem))

    async def _render_frames(self, watcher: RenderWatcher) -> list[Path]:
        await run_in_thread(self._check_places)
        keeps = self._job.job.resume is ResumeUnit.FRAMES and self._chunk.is_divisible

        def task(part: Chunk, place: Path, finished: WholeFrameScanner) -> RenderTask:
            files = tuple(place / self._job.place_output(path) for path in part.outputs())
            return self._task(part, place, counted_dir=place, outputs=files, is_whole=finished.is_complete)

        names = await run_in_thread(lambda: [Path(self._job.place_output(path)) for path in self._chunk.outputs()])
        kept = self._kept if keeps else None
        undeclared = UndeclaredFiles(self._job, self._chunk) if self._job.job.also else None
        self._runs = runs = SequenceRender(self._host.backend, self._chunk, self._dir, names, kept, task, undeclared)
        try:
            await runs.render(watcher)
        except AttemptError as error:
            if error.suspect:
                await self._forget_kept_frames()
            raise
        self._used = runs.used
        return await run_in_thread(lambda: runs.files)

    async def _render_whole(self, watcher: RenderWatcher) -> list[Path]:
        made, task = await run_in_thread(self._prepare_whole)
        run = CommandWatcher(watcher, before=0, count=self._chunk.count, used=Usage())
        self._used = await self._host.backend.render(task, run)
        if self._chunk.writes_in_place:
            await run_in_thread(partial(self._collect_in_place, made))
        return made

    def _prepare_whole(self) -> tuple[list[Path], RenderTask]:
        """Make the attempt's place; return the files in it, and what renders them by one command."""
        self._check_places()
        made = self._prepare()
        written = self._local_targets if self._chunk.writes_in_place else made
        proof: Callable[[], bool] | None
        if self._job.job.also:
            # Outputs that are whole say nothing of files that no output declares.
            proof = None
        elif self._chunk.kind is OutputKind.FRAMES:
            proof = FinishedFrameScanner(dict(enumerate(written))).is_complete
        elif self._chunk.kind is OutputKind.FILE and self._job.job.check is None:
            # Half a file is there and not empty, too: only the end of its renderer tells.
            proof = None
        else:
            proof = OutputCheck(self._chunk, written, self._job.job.rate).is_proven
        task = self._task(self._chunk, self._dir, outputs=tuple(written), is_whole=proof)
        return made, replace(task, is_first=True)

    async def _run_own_check(self, watcher: RenderWatcher) -> None:
        """Run the job's own check, which may refuse what is whole."""
        if self._job.job.check is None:
            return
        place = self._dir if self._runs is None else self._runs.whole_dir
        task = await run_in_thread(partial(self._task, self._chunk, place, self._job.job.check))
        task = replace(task, frames=range(0), progress=ProgressSpec())
        run = CommandWatcher(watcher, before=self._chunk.count, count=0, used=self._used)
        try:
            self._used += await self._host.backend.render(task, run)
        except AttemptError:
            # Kept, these frames would be refused again and again.
            await self._forget_kept_frames()
            raise

    @property
    def _expected_files(self) -> frozenset[Path]:
        """The files in the attempt's place that are outputs, or become them."""
        whole = (self._dir / self._job.place_output(path) for path in self._chunk.iter_outputs())
        return frozenset(whole) if self._runs is None else self._runs.expected_files

    @property
    def _part_places(self) -> tuple[Path, ...]:
        """The folders in the attempt's place that commands of an image sequence were given."""
        return () if self._runs is None else self._runs.part_places

    async def _forget_kept_frames(self) -> None:
        self._keeps_frames = False
        await run_in_thread(self._kept.remove)

    def _keep_frames(self) -> None:
        if self._runs is not None and self._keeps_frames and self._folder.sidecar(self._key) is None:
            self._runs.keep()
            # A failed try comes here up to three times, and each look for the sidecar is a call of the store.
            self._keeps_frames = False

    def _clean_up(self) -> None:
        try:
            if self._segment is not None and self._segment.has(self._key):
                # Its files are published with those of other chunks, and cleared away then.
                return
            self._keep_frames()
            discard_attempt(self._folder, self._key, self.name)
        except OSError as error:
            # What is left goes with the chunk's other attempts, when it is published.
            _log.warning("what %s has left cannot be cleared away: %s", self._place, error)

    def _prepare(self) -> list[Path]:
        """Make the attempt's place; return the files in it."""
        made = [self._dir / self._job.place_output(path) for path in self._chunk.outputs()]
        self._dir.mkdir(parents=True, exist_ok=True)
        for mine, target in zip(made, self._local_targets, strict=True):
            mine.parent.mkdir(parents=True, exist_ok=True)
            if self._chunk.writes_in_place:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    # Left by an attempt that was killed: nobody has published, or this attempt would not run.
                    self._folder.set_aside(str(target), f"{self._key}.{target.name}")
        return made

    def make_plain_task(self) -> RenderTask:
        """Return what renders a chunk of a directory store by its one command; blocking."""
        self._workdir = Path(self._store.url)
        return self._task(self._chunk, self._dir)

    def _task(
        self,
        chunk: Chunk,
        place: Path,
        command: tuple[str, ...] | None = None,
        *,
        counted_dir: Path | None = None,
        outputs: tuple[Path, ...] = (),
        is_whole: Callable[[], bool] | None = None,
    ) -> RenderTask:
        """Return what renders these frames of the chunk into a folder, or another command that reads them there."""
        job = self._job.job
        places = chunk.place_outputs(lambda path: str(place / self._job.place_output(path)))
        expanded = chunk.expand_command(command or chunk.command_template, places)
        request = None
        if command is None and job.session is not None:
            request = format_request(expanded)
            expanded = tuple(expand_template(word, {}) for word in job.session)
        tag = attempt_tag(self._job, chunk=str(chunk.index), attempt=self.name)
        return RenderTask(
            command=self._host.programs.resolve(
                expanded, base_dir=self._workdir, field="command" if request is None else "session"
            ),
            cwd=self._workdir,
            env=self._host.environment(self._job, tag),
            tag=tag,
            log=self._store.local(self.log),
            request=request,
            folders=(place,) if self._store.is_local else (place, self._workdir),
            timeouts=job.timeouts,
            retry=job.retry,
            program=Path(expanded[0]).name,
            frames=chunk.frames,
            progress=job.progress,
            counted_dir=counted_dir,
            files_per_frame=len(chunk.templates),
            is_whole=is_whole,
            outputs=outputs,
            proof_is_weak=chunk.kind is OutputKind.FILE,
            chunk_id=(chunk.index if chunk.id is None else chunk.id) if command is None else None,
        )

    def _collect_in_place(self, made: list[Path]) -> None:
        """Bring home what a command wrote under its final name, before anyone can take it for published."""
        for mine, target in zip(made, self._local_targets, strict=True):
            if target.is_symlink():
                # It would lead elsewhere from there.
                raise AttemptError(
                    f"{target} is a symbolic link; let the renderer write the file itself, or to {{output}}"
                )
            if target.exists():
                os.replace(target, mine)

    def _publish(
        self, made: list[Path], proofs: tuple[Proof, ...], signatures: tuple[Signature, ...], seconds: float
    ) -> Sidecar:
        files = [*made, *self._undeclared]
        targets = [*self._targets, *self._undeclared.values()]
        # A render may have put a link in the place of a folder since.
        self._host.check_targets(self._job, targets)
        known = self._expected_files | self._undeclared.keys()
        if self._runs is not None:
            known |= self._runs.undeclared_found
        others = self._others.note(known, self._part_places, "; outputs or also would have them published")
        with self._prepare_pictures(made, proofs, seconds) as pictures:
            sidecar = self._publish_files(files, targets, proofs, signatures, seconds, others)
            if sidecar.attempt == self.name:
                pictures.submit()
        return sidecar

    def _prepare_pictures(self, made: list[Path], proofs: tuple[Proof, ...], seconds: float) -> ChunkPictures:
        """Make what small pictures of the chunk are made of safe from whoever moves or removes its files."""
        if self._host.pictures is None:
            return ChunkPictures()
        return self._host.pictures.prepare(self._job, self._chunk, made, proofs, self._workdir, seconds)

    def _publish_files(
        self,
        files: list[Path],
        targets: list[str],
        proofs: tuple[Proof, ...],
        signatures: tuple[Signature, ...],
        seconds: float,
        others: str,
    ) -> Sidecar:
        proof, segment = proofs[0], self._segment
        return (partial(publish, self._folder) if segment is None else segment.publish)(
            Sidecar(
                key=self._key,
                digest=self._job.ref.digest,
                chunk_digest=self._job.compute_digest(self._key),
                attempt=self.name,
                host=self._host.name,
                frames=proof.frames,
                files=stage_files(self._folder, files, self._place, targets, signatures, sync=segment is None),
                video=proof.video,
                images=proof.images,
                unproven=proof.unproven,
                further=tuple(further.facts for further in proofs[1:]),
                also=len(self._undeclared),
                width=proof.width,
                height=proof.height,
                render_seconds=round(seconds, 3),
                cpu_seconds=round(self._used.cpu_seconds, 3),
                peak_memory_bytes=self._used.peak_memory_bytes,
                log=self.log,
                others=others,
            ),
        )
