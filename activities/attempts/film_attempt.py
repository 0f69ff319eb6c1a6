"""One attempt at the film of a job: join chunks, encode image files, or run the job's own merge command."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import NoReturn

from activities.attempts.film_parts import FilmParts, FilmShape, has_parts
from activities.attempts.host import Host, attempt_tag
from activities.attempts.output_files import OtherFiles, sign_outputs
from activities.attempts.proven_chunks import ProvenChunks
from activities.attempts.store_io import explain_failure, note_full_disk, retry_while_store_is_away, ship_log
from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.errors import AttemptError, RefusedError
from activities.media.audio import build_audio_command, find_audio_suffix
from activities.media.colour import UnknownColours, find_conversion
from activities.media.decoder import is_transparent
from activities.media.encode import build_encode_command, build_image_pattern, find_language, is_refusal
from activities.media.facts import ChunkFile, DamagedOutput, MediaError, MismatchedOutput, SoundFile
from activities.media.film import FilmFacts, verify_film
from activities.media.join import join_video
from activities.media.quicktime import set_languages
from activities.media.seams import JoinedFilm
from activities.stores.job_folder import OpenJob, Sidecar
from activities.stores.kept_frames import Signature
from activities.stores.publish import discard_attempt, finish_claim, publish, revoke, stage_files
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.models.audio import AudioTrack
from longtake.models.colour import DEFAULT_CONFIG
from longtake.models.films import Verification
from longtake.models.status import RenderJobResult
from longtake.paths import FILM_SUFFIXES, OutputKind
from longtake.ranges import Range, RangeSet
from longtake.stores.publications import PublishedFile
from longtake.stores.store import map_parallel
from longtake.templates import expand_template

_log = logging.getLogger(__name__)

_LOST_ALPHA = (
    "its pictures are transparent and the film is not: its encoder keeps no alpha; encode: [-c:v, prores_ks, "
    "-profile:v, 4444, -pix_fmt, yuva444p10le] does in .mov, and -pix_fmt yuva420p of VP9 in .webm"
)


def fetch_chunk_files(job: OpenJob, sidecars: Sequence[Sidecar], place: Path) -> list[Path]:
    """Return the files of the output that makes the film, in order; those of a bucket are downloaded and proven.

    Raises:
        StoreError: A file has another content than was published.
    """
    store = job.folder.store

    def bring(numbered: tuple[int, PublishedFile]) -> Path:
        number, file = numbered
        return store.download(file.path, place / f"{number:09}{Path(file.path).suffix}", sha256=file.sha256)

    source = job.job.film_source
    return map_parallel(store, bring, enumerate(file for each in sidecars for file in each.files_of(source)))


def download_chunk_files(job: OpenJob, sidecars: Sequence[Sidecar], place: Path) -> None:
    """Download all files of a bucket under the names that the job gives them, for its merge command."""
    store = job.folder.store
    root = f"{store.url}/"

    def bring(file: PublishedFile) -> Path:
        return store.download(file.path, place / file.path.removeprefix(root), sha256=file.sha256)

    place.mkdir(parents=True, exist_ok=True)
    map_parallel(store, bring, _files(sidecars))


def _files(sidecars: Sequence[Sidecar]) -> list[PublishedFile]:
    return [file for sidecar in sidecars for file in sidecar.files]


class FilmAttempt:
    """One attempt at a film of a job.

    Args:
        host: The host that makes the film.
        job: The job with this film alone.
        sidecars: The sidecars of the chunks that belong in the film, in order.
        name: Name of the attempt, never used twice.
        watcher: Called with the progress.
    """

    def __init__(self, host: Host, job: OpenJob, sidecars: ProvenChunks, name: str, watcher: RenderWatcher) -> None:
        self._host = host
        self._job = job
        self._sidecars = sidecars
        self._name = name
        self._watcher = watcher
        self._stop = threading.Event()
        self._store = job.folder.store
        self._key = job.film_key
        self._place = job.folder.attempt_dir(self._key, name)
        self._dir = self._store.local(self._place)
        self._workdir = self._dir
        self._joined: JoinedFilm | None = None
        self._parts: FilmParts | None = None
        self._frames = sidecars.frames
        self.log = job.folder.log_path(self._key, name)
        self._others = OtherFiles(job.folder, self._key, self._dir, self.log)

    async def run(self) -> RenderJobResult:
        """Make and publish the film, unless it is published already, and return the result of a job with it alone.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: The try ended through no fault of its own, or the store is away.
            RefusedError: A chunk is damaged; the sentence names it.
        """
        try:
            standing = await self._find_or_make()
        except (AttemptError, OSError) as error:
            raise await explain_failure(error, self._job.folder, self._dir) from error
        if standing is None:
            return RenderJobResult(frames=self._frames)
        (film,) = standing.files
        return RenderJobResult(
            output=film.path,
            sha256=film.sha256,
            size_bytes=film.size_bytes,
            frames=standing.frames,
            duration_seconds=standing.duration_seconds,
            proof=standing.proof,
            unproven=standing.notes,
            others=standing.others,
        )

    async def _find_or_make(self) -> Sidecar | None:
        if self._job.job.output is not None:
            standing = await run_in_thread(partial(finish_claim, self._job.folder, self._key))
            if standing is not None:
                return standing
        async with self._host.inputs.lay_out_in_thread(self._job) as self._workdir, ship_log(self._store, self.log):
            return await self._make()

    async def _make(self) -> Sidecar | None:
        if self._job.job.output is None:
            # A merge command whose film cannot be told from its words: its exit code is all there is.
            await self._merge(None)
            return None
        try:
            return await self._make_film()
        finally:
            await clean_up_in_thread(self._clean_up)

    def _clean_up(self) -> None:
        try:
            discard_attempt(self._job.folder, self._key, self._name)
        except OSError as error:
            _log.warning("what %s has left cannot be cleared away: %s", self._place, error)

    async def _make_film(self) -> Sidecar:
        await run_in_thread(partial(self._dir.mkdir, parents=True, exist_ok=True))
        target = self._job.target(self._job.film_path)
        film = self._dir / target.rpartition("/")[2]
        try:
            facts, signatures = await self._make_and_prove(film)
        except AttemptError as error:
            await run_in_thread(partial(note_full_disk, error, self._dir))
            await run_in_thread(partial(self._others.blame, error, self._own_files(film)))
            raise
        done = Progress(frames_done=self._frames)
        return await retry_while_store_is_away(
            partial(self._publish, film, target, facts, signatures),
            lambda message: self._watcher.on_progress(replace(done, message=message)),
        )

    async def _make_and_prove(self, film: Path) -> tuple[FilmFacts | None, tuple[Signature, ...]]:
        job = self._job.job
        if job.merge_command is not None:
            await self._merge(film)
        elif job.film_kind is OutputKind.FRAMES:
            await self._encode(film)
        else:
            await self._join(film)
        try:
            return await run_in_thread(partial(self._prove, film), self._stop)
        except MediaError as error:
            error = await self._blame_parts(error)
            if error.chunk is not None:
                await self._refuse(error)
            sentence = f"the film is not what it must be: {error.sentence}"
            if job.merge_command is not None:
                # Of proven chunks, by a command that ended well: it would make the same again.
                raise AttemptError(f"{sentence}; change merge_command", needs_change=True) from error
            raise AttemptError(sentence, needs_change=isinstance(error, MismatchedOutput)) from error

    def _own_files(self, film: Path) -> frozenset[Path]:
        """Return the film, and what this attempt itself puts beside it."""
        own = [film]
        if self._job.job.merge_command is None:
            tracks = enumerate(self._job.job.audio_tracks)
            own += [self._dir / name for name in ("chunks", "parts", "frames", "conversion.json")]
            own += [self._sound_file(film, number, track) for number, track in tracks]
        return frozenset(own)

    def _sound_file(self, film: Path, number: int, track: AudioTrack) -> Path:
        return self._dir / f"sound{number}{find_audio_suffix(film.suffix, track.codec)}"

    async def _join(self, film: Path) -> None:
        try:
            chunks = await run_in_thread(self._make_parts, self._stop)
        except MediaError as error:
            await self._refuse(error)
        if self._parts is None:
            chunks = await run_in_thread(partial(self._bring_chunks, 0, None, self._dir / "chunks"))
        join = partial(
            join_video,
            chunks,
            film,
            fps=self._job.job.rate,
            audio=await self._sounds(film),
            drop=self._job.job.drop,
            progress=lambda frames: self._on_frames(frames, is_film=True),
            stop=self._stop,
            pattern=self._parts.pattern if self._parts is not None else None,
        )
        try:
            self._joined = await run_in_thread(join, self._stop)
        except MediaError as error:
            await self._refuse(await self._blame_parts(error))

    def _make_parts(self) -> list[ChunkFile]:
        """Return the parts of the film; none where it is made of its chunks at once."""
        job = self._job.job
        shape = FilmShape(job.rate, job.drop, bool(job.audio_tracks), job.verify is Verification.FULL)
        made_of: list[tuple[str, int]] = []

        def look() -> Iterator[ChunkFile]:
            for number, sidecar in enumerate(self._sidecars):
                chunk = self._describe_chunk(number, Path(sidecar.files_of(job.film_source)[0].path))
                made_of.append((chunk.sha256, chunk.frames))
                yield chunk

        if not has_parts(look(), len(self._sidecars), shape):
            return []
        self._parts = FilmParts(self._job.folder, self._key, self._dir, shape, self._stop)
        return self._parts.make_all(made_of, self._bring_chunks, self._on_frames)

    async def _blame_parts(self, error: MediaError) -> MediaError:
        """Return the error of a film; where it was joined from parts, no chunk is to blame, and these are removed."""
        if self._parts is not None:
            await run_in_thread(self._parts.forget)
            error.chunk = None
        return error

    def _bring_chunks(self, start: int, stop: int | None, place: Path) -> list[ChunkFile]:
        files = fetch_chunk_files(self._job, self._sidecars[start:stop], place)
        return [self._describe_chunk(number, path) for number, path in enumerate(files, start)]

    def _describe_chunk(self, number: int, path: Path) -> ChunkFile:
        """Describe the file of a chunk of the film, given its number there."""
        sidecar, source = self._sidecars[number], self._job.job.film_source
        return ChunkFile(
            path,
            f"chunk {int(sidecar.key)}",
            sidecar.frames,
            facts=sidecar.facts[source].video,
            sha256=sidecar.files_of(source)[0].sha256,
            position=self._positions[number],
            render_seconds=sidecar.render_seconds,
        )

    def _sound_frames(self, places: Sequence[Range]) -> int:
        """Return how many frames the sound is as long as, before it is cut to those that the film has."""
        chunks = self._job.chunks
        return sum(chunk.count for chunk in chunks) if len(places) < len(chunks) else self._frames

    @cached_property
    def _positions(self) -> list[int]:
        return [start for start, _ in self._places()]

    def _places(self) -> list[Range]:
        """Return the frames of each chunk of the film, counted from the first frame of the job, gaps included."""
        wanted = set(self._sidecars.numbers)
        places, before = [], 0
        for chunk in self._job.chunks:
            if chunk.index in wanted:
                places.append((before, before + chunk.count))
            before += chunk.count
        return places

    async def _refuse(self, error: MediaError) -> NoReturn:
        """Name the culprit; a damaged chunk is taken back, so that a retry of the job renders it again."""
        # Of a share that has vanished every chunk is missing, and none is to blame.
        await run_in_thread(self._job.check_record)
        changed = isinstance(error, MismatchedOutput)
        if error.chunk is None:
            raise AttemptError(error.sentence, needs_change=changed) from error
        fix = "render the job under another id with one setting for all chunks"
        if isinstance(error, DamagedOutput):
            await run_in_thread(partial(revoke, self._job.folder, self._sidecars[error.chunk].key))
            fix = f"`longtake retry {self._job.ref.id}` renders it again"
        raise RefusedError(f"no film was made: {error.sentence}; {fix}", needs_change=changed) from error

    async def _encode(self, film: Path) -> None:
        """Encode image files through links with plain numbers, whatever their own names are."""
        links = self._dir / "frames"
        first = Path(self._sidecars[0].files_of(self._job.job.film_source)[0].path)
        await run_in_thread(partial(self._link_frames, links))
        pattern = build_image_pattern(f"{links}/", 9, first.suffix)
        job, sounds = self._job.job, await self._sounds(film)
        images = self._sidecars[0].facts[job.film_source].images
        convert = partial(find_conversion, job.colour, job.encode, images, self._workdir, DEFAULT_CONFIG)
        try:
            conversion = await run_in_thread(convert)
        except UnknownColours as error:
            raise AttemptError(str(error), needs_change=True) from error
        command = build_encode_command(
            self._host.programs.ffmpeg,
            pattern,
            0,
            job.rate,
            job.encode,
            film,
            sounds,
            conversion.colours if conversion else None,
            is_piped=conversion is not None,
        )
        if conversion is not None:
            await run_in_thread(self._host.check_python)
            request = self._dir / "conversion.json"
            write = partial(conversion.write_request, request, links, first.suffix, self._frames, job.encode, command)
            command = await run_in_thread(write)
        try:
            await self._run(command)
        except AttemptError as error:
            if is_refusal(str(error)):
                raise AttemptError(str(error), needs_change=True) from error
            raise
        await run_in_thread(
            partial(set_languages, film, video=find_language(job.encode), sounds=[sound.language for sound in sounds])
        )

    def _link_frames(self, links: Path) -> None:
        links.mkdir(exist_ok=True)
        for number, path in enumerate(fetch_chunk_files(self._job, self._sidecars, self._dir / "chunks")):
            os.symlink(path, links / f"{number:09}{path.suffix}")

    async def _sounds(self, film: Path) -> list[SoundFile]:
        """Return the job's sounds, each encoded once, as long as the film and cut where the film lacks chunks."""
        job, sounds = self._job.job, []
        places = await run_in_thread(self._places) if job.audio_tracks else []
        kept = [(start / job.rate, stop / job.rate) for start, stop in RangeSet(places).ranges]
        frames = await run_in_thread(partial(self._sound_frames, places))
        for number, track in enumerate(job.audio_tracks):
            sound = self._sound_file(film, number, track)
            command = partial(
                build_audio_command,
                self._host.programs.ffmpeg,
                self._workdir / track.file,
                sound,
                duration=frames / job.rate,
                film_suffix=film.suffix,
                codec=track.codec,
                offset_seconds=Fraction(track.offset_seconds),
                kept=kept,
            )
            try:
                await self._run(await run_in_thread(command))
            except MediaError as error:
                raise AttemptError(f"audio: {error.sentence}") from error
            sounds.append(SoundFile(sound, track.language or ""))
        return sounds

    async def _merge(self, film: Path | None) -> None:
        if not self._store.is_local:
            # Beside the job's inputs, in a folder of this attempt's own.
            await run_in_thread(partial(download_chunk_files, self._job, self._sidecars, self._workdir))
            await run_in_thread(partial(self._others.watch, self._workdir))
        words = {"output": str(film)} if film is not None else {}
        command = [expand_template(part, words) for part in self._job.job.merge_command or ()]
        resolved = await run_in_thread(
            partial(self._host.programs.resolve, command, base_dir=self._workdir, field="merge_command")
        )
        await self._run(resolved, Path(command[0]).name)

    async def _run(self, command: Sequence[str], program: str = "ffmpeg") -> None:
        tag = attempt_tag(self._job, chunk=self._key, attempt=self._name)
        task = RenderTask(
            command=tuple(command),
            cwd=self._workdir,
            env=self._host.environment(self._job, tag),
            tag=tag,
            log=self._store.local(self.log),
            folders=(self._dir,) if self._store.is_local else (self._dir, self._workdir),
            program=program,
            frames=range(self._frames),
            # A film may take days to encode; standing still ends it all the same.
            timeouts=self._job.job.timeouts.model_copy(update={"chunk_seconds": 60 * 60 * 24 * 7}),
        )
        await self._host.backend.render(task, self._watcher)

    def _on_frames(self, frames: int, *, is_film: bool = False) -> None:
        if self._parts is not None:
            # Each frame is copied twice: into a part, and from there into the film.
            frames = (frames + is_film * self._frames) // 2
        self._watcher.on_progress(Progress(frames_done=frames))

    def _prove(self, film: Path) -> tuple[FilmFacts | None, tuple[Signature, ...]]:
        """Return what was found in the film, and its signature from before it was checked."""
        signatures = sign_outputs([film], self._dir)
        return self._inspect(film), signatures

    def _inspect(self, film: Path) -> FilmFacts | None:
        """Return what was found in the film; None where a merge command makes something else than a film."""
        if film.suffix.lower() not in FILM_SUFFIXES:
            if not film.is_file() or film.stat().st_size == 0:
                sentence = f"the merge command ended well and wrote no {film.name}; change merge_command or output"
                raise AttemptError(sentence, needs_change=True)
            return None
        job = self._job.job
        # A merge command may re-encode, and joins less exactly; counts and times are known all the same.
        merged = job.merge_command is not None
        facts = verify_film(
            film,
            fps=job.rate,
            frames=self._frames,
            joined=self._joined,
            audio=len(job.audio_tracks),
            full=job.verify is Verification.FULL,
            slack_seconds=1 / (2 * job.rate) if merged else Fraction(0),
            stop=self._stop,
        )
        if self._joined is not None and self._parts is not None:
            parts = f"{facts.proof}; they are {len(self._joined.chunks)} parts, each compared with its chunks likewise"
            return facts.model_copy(update={"proof": parts})
        if not merged and job.film_kind is OutputKind.FRAMES and not facts.has_alpha and self._is_transparent():
            return facts.model_copy(update={"notes": (*facts.notes, _LOST_ALPHA)})
        return facts

    def _is_transparent(self) -> bool:
        """Tell whether the first, the middle or the last picture of the film has transparent pixels."""
        suffix = Path(self._sidecars[0].files_of(self._job.job.film_source)[0].path).suffix
        numbers = {0, self._frames // 2, self._frames - 1}
        return any(is_transparent(self._dir / "frames" / f"{number:09}{suffix}") for number in numbers)

    def _publish(self, film: Path, target: str, facts: FilmFacts | None, signatures: tuple[Signature, ...]) -> Sidecar:
        self._host.check_targets(self._job, [target])
        others = self._others.note(self._own_files(film))
        return publish(
            self._job.folder,
            Sidecar(
                key=self._key,
                digest=self._job.ref.digest,
                chunk_digest=self._job.film_digest,
                attempt=self._name,
                host=self._host.name,
                frames=facts.frames if facts else self._frames,
                files=stage_files(self._job.folder, [film], self._place, [target], signatures),
                width=facts.width if facts else None,
                height=facts.height if facts else None,
                duration_seconds=facts.duration_seconds if facts else None,
                proof=facts.proof if facts else "",
                notes=facts.notes if facts else (),
                log=self.log,
                others=others,
            ),
        )
