"""Publication: make the verified files of one attempt the final result.

1. The *claim* names the winner: an exclusive create, so that of two attempts exactly one can win.
2. The winner's files get their final names.
3. The *sidecar* commits.

An attempt that meets a claim without a sidecar finishes steps 2 and 3 for the winner, so that a crash between any two
steps costs nothing and never mixes two attempts, also when a chunk has many files.

A span of several chunks does the same for many at once: a part of its segment is the claim on them, and their sidecars;
see `segment_writer`. What a segment says of a chunk counts before a claim on it, and its sidecar before both.
"""

import errno
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from activities.errors import AttemptError, attempt_failure
from activities.media.facts import DamagedOutput, MediaError
from activities.media.images.check import check_image
from activities.media.images.facts import ImageFacts
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_record
from activities.stores.kept_frames import FinishedFrame, FrameNumbers, KeptFrames, Signature, file_signature
from activities.stores.ownership import reclaim_file
from longtake.concurrency import finish_once_begun
from longtake.models.job_fields import IfExists
from longtake.stores.directory import digest_stream, file_digest
from longtake.stores.job_layout import chunk_key, describe_key, find_film_number
from longtake.stores.job_records import find_publishers
from longtake.stores.publications import PublishedFile, is_as_published
from longtake.stores.segments import FoundRecord
from longtake.stores.store import Store, StoredFile, StoreError, map_parallel, store_call

_log = logging.getLogger(__name__)

# Of a file that was proven when it was published, as far as its name told what it is.
_NO_FACTS = ImageFacts(width=0, height=0, format="")


def is_intact(store: Store, sidecar: Sidecar) -> bool:
    """Tell whether all published files of a sidecar are there with their content; see `is_as_published`."""
    return all(map_parallel(store, lambda file: _is_intact(store, file), sidecar.files))


def revoke_chunk(
    job: OpenJob, chunk: int, *, attempt: str | None = None, without: frozenset[int] = frozenset()
) -> None:
    """Take back a finished chunk; see `revoke`. Files that no output declares are kept with their frames."""
    revoke(
        job.folder,
        chunk_key(chunk),
        attempt=attempt,
        without=without,
        numbers=FrameNumbers(job, job.chunks[chunk]) if job.job.also else None,
    )


def revoke(
    folder: JobFolder,
    key: str,
    *,
    attempt: str | None = None,
    without: frozenset[int] = frozenset(),
    numbers: FrameNumbers | None = None,
) -> None:
    """Take back a finished chunk whose files were damaged, so that a later attempt renders the damaged files again.

    All sound frames of an image sequence are kept. A sidecar that cannot be read is set aside: its chunk is published
    again by its claim where the files are as claimed, and rendered again where they are not.

    Args:
        folder: The job's.
        key: Key of the chunk or the film.
        attempt: Name of the attempt whose chunk is taken back; one that another attempt has made stays.
        without: Frames of the chunk that are set aside as damaged ones are, counted from 0.
        numbers: Tells the frames of files that no output declares; None where there are none.
    """
    sidecar = folder.sidecar(key)
    if sidecar is None or attempt not in (None, sidecar.attempt):
        return
    brought = folder.attempt_dir(key, "revoked")
    sound, others = _sound_frames(folder, sidecar, folder.store.local(brought), without, numbers)
    KeptFrames(folder, key).keep(sidecar.attempt, sound.values(), others)
    folder.store.remove_all(brought)
    first_also = len(sidecar.files) - sidecar.also
    for number, file in enumerate(sidecar.files):
        with suppress(FileNotFoundError):
            if number in sound and number < first_also:
                folder.store.remove(file.path)
            elif number < first_also or not _is_intact(folder.store, file):
                # One that no output declares may be another chunk's too, and is left there while it is sound.
                folder.set_aside(file.path, f"{key}.{file.path.rpartition('/')[2]}")
    with suppress(FileNotFoundError):
        folder.set_aside(folder.sidecar_path(key), f"{key}.json")
    if find_film_number(key) is None:
        for found in folder.read_segments().find_all(int(key)):
            folder.forget(found.record)
    folder.store.remove(folder.claim_path(key))


def _is_intact(store: Store, file: PublishedFile) -> bool:
    there = store.stat(file.path)
    return there is not None and _has_content(store, there, file)


def _has_content(store: Store, there: StoredFile, file: PublishedFile, *, trust_time: bool = True) -> bool:
    """Tell what `is_as_published` does; a file that its disk cannot read any more is damaged."""
    try:
        return is_as_published(store, there, file, trust_time=trust_time)
    except StoreError:
        raise
    except OSError:
        return False


def _sound_frames(
    folder: JobFolder, sidecar: Sidecar, place: Path, without: frozenset[int], numbers: FrameNumbers | None
) -> tuple[dict[int, FinishedFrame], dict[str, str]]:
    """Return the undamaged files of a published image sequence, by their numbers, and the digests of those of no frame.

    Of a frame that is wanted anew, or has lost a file that no output declares, none is among them.
    """
    sound: dict[int, tuple[int, FinishedFrame]] = {}
    others: dict[str, str] = {}
    if find_film_number(sidecar.key) is not None or sidecar.video is not None or sidecar.width is None:
        return {}, others
    lost = set(without)
    first_also = len(sidecar.files) - sidecar.also
    for number, file in enumerate(sidecar.files):
        is_declared = number < first_also
        name = "" if is_declared else file.path.removeprefix(f"{folder.store.url}/")
        frame: int | None = number % sidecar.frames
        if not is_declared:
            frame = numbers.find_frame(name)[0] if numbers is not None else None
        if frame is None:
            others[name] = file.sha256
            continue
        try:
            path = folder.store.download(file.path, place / str(number) / Path(file.path).name, sha256=file.sha256)
            before = file_signature(path.stat())
            if file_digest(path) != file.sha256:
                raise DamagedOutput(path.name, "has another content")
            facts = check_image(path) if is_declared else _NO_FACTS
            sound[number] = frame, FinishedFrame(number if is_declared else frame, path, facts, before, name)
        except (OSError, MediaError):
            if not is_declared:
                lost.add(frame)
    return {number: file for number, (frame, file) in sound.items() if frame not in lost}, others


def stage_files(
    folder: JobFolder,
    made: Sequence[Path],
    place: str,
    targets: Sequence[str],
    proven: Sequence[Signature] | None = None,
    *,
    sync: bool = True,
) -> tuple[PublishedFile, ...]:
    """Upload an attempt's files to its own folder in the store, and return their records.

    Args:
        folder: The job's.
        made: The files, below where this host writes for that place.
        place: The attempt's own.
        targets: Their final names, in the same order.
        proven: Their signatures from before they were checked, in the same order.
        sync: Whether their content must survive a power cut at once; false where the caller sees to that.

    Raises:
        AttemptError: A file was written to, exchanged or made a link after its renderer had ended, or cannot be read.
        AttemptLostError: The disk had no room for all of a file, whose content cannot be trusted any more.
        StoreError: The store is away, or this is another one; see `JobFolder.check_store`.
    """
    folder.check_store()
    signatures: Sequence[Signature | None] = proven or [None] * len(made)
    files = zip(made, targets, signatures, strict=True)
    return tuple(map_parallel(folder.store, lambda file: _stage_file(folder.store, place, *file, sync=sync), files))


def _stage_file(
    store: Store, place: str, made: Path, target: str, proven: Signature | None, *, sync: bool
) -> PublishedFile:
    with _open_output(made) as file:
        before = os.fstat(file.fileno())
        if proven is not None and file_signature(before) != proven:
            raise AttemptError(f"{made.name} was written to after it was checked; let nothing change checked outputs")
        reclaim_file(file.fileno())
        try:
            if sync:
                os.fsync(file.fileno())
            # Of the file that is open: what has its name by now may be another.
            digest = digest_stream(file)
        except StoreError:
            raise
        except OSError as error:
            # Of the attempt's own file: no store that comes back mends that, and no second fsync tells of it again.
            raise attempt_failure(error, made) from error
    handed_in = f"{place}/{made.relative_to(store.local(place))}"
    store.put(made, handed_in, sha256=digest)
    if file_signature(os.lstat(made)) != file_signature(before):
        raise AttemptError(f"{made.name} was written to while it was read to be published")
    return PublishedFile(
        path=target,
        attempt_path=handed_in,
        size_bytes=before.st_size,
        sha256=digest,
        modified_ns=before.st_mtime_ns if store.is_local else 0,
    )


def _open_output(made: Path) -> BinaryIO:
    """Open an output to read it, unless it has become a link."""
    try:
        return os.fdopen(os.open(made, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise AttemptError(f"{made.name} has become a symbolic link after it was checked") from error


def publish(folder: JobFolder, winner: Sidecar) -> Sidecar:
    """Publish verified files and return the sidecar: this attempt's, or that of an attempt that came first.

    Raises:
        AttemptError: A file that another job has published stands where one must be published.
        StoreError: The store is away, or this is another one; see `JobFolder.check_store`.
    """
    folder.check_store()
    check_undeclared(folder, winner)
    winner = winner.model_copy(update={"published_at": datetime.now(UTC)})
    claim = encode_record(winner)
    # Again where the claim that stood led to nothing: it could not be read, or its files are gone.
    for _ in range(2):
        with finish_once_begun():
            folder.store.create(folder.claim_path(winner.key), claim)
            standing = finish_claim(folder, winner.key)
        if standing is not None:
            return standing
    raise AttemptError(f"the claim on {winner.key} was withdrawn while it was published")


def finish_claim(folder: JobFolder, key: str) -> Sidecar | None:
    """Finish the publication that a claim began; return the sidecar, or None where there is neither.

    Raises:
        StoreError: The store is away, or this is another one; see `JobFolder.check_store`.
    """
    folder.check_store()
    standing = _finish_claim(folder, key)
    # Once more: a share may have vanished while this looked, and what was found on the disk below it is not done.
    folder.check_store()
    return standing


def _finish_claim(folder: JobFolder, key: str) -> Sidecar | None:
    is_film = find_film_number(key) is not None
    sidecar = folder.read_sidecar(key)
    found = None
    if sidecar is None and not is_film:
        found = folder.take_over_segments(int(key), int(key) + 1, by=f"chunk {int(key)}").get(key)
    return finish_record(folder, key, sidecar, found)


def finish_record(
    folder: JobFolder, key: str, sidecar: Sidecar | None, found: FoundRecord[Sidecar] | None
) -> Sidecar | None:
    """Finish the publication of a chunk or a film whose records were read; return the one that stands, if any.

    Args:
        folder: The job's.
        key: Key of the chunk or the film.
        sidecar: Its sidecar.
        found: What a segment says of it, to which nobody can add.
    """
    if sidecar is None and found is not None and found.is_placed:
        sidecar = found.record
    if sidecar is not None:
        if _is_there(folder, folder.frames_dir(key)) or _is_there(folder, folder.attempts_dir(key)):
            # Left by a crash right after the sidecar was written, or by an attempt that lost.
            clear_attempts(folder, key)
        return sidecar
    if found is not None:
        with finish_once_begun():
            if (standing := _finish(folder, found.record)) is not None:
                return standing
            folder.forget(found.record)
    claim = folder.claim(key)
    if claim is None:
        return None
    with finish_once_begun():
        if (standing := _finish(folder, claim)) is None:
            # Without the winner's files the claim can never be finished, and would block all later attempts.
            folder.store.remove(folder.claim_path(key))
        return standing


def _finish(folder: JobFolder, winner: Sidecar) -> Sidecar | None:
    """Place the files of a winner and write its sidecar; None where its files are gone."""
    if not place_files(folder, winner):
        return None
    sync_targets(folder.store, (winner,))
    folder.store.create(folder.sidecar_path(winner.key), encode_record(winner))
    clear_attempts(folder, winner.key)
    return folder.read_sidecar(winner.key)


def discard_attempt(folder: JobFolder, key: str, attempt: str) -> None:
    """Remove the files of an attempt, unless it has the claim and is not published yet.

    Raises:
        StoreError: The store is away, or this is another one; see `JobFolder.check_store`.
    """
    folder.check_store()
    claim = folder.claim(key)
    if claim is not None and claim.attempt == attempt and folder.sidecar(key) is None:
        return
    place = folder.attempt_dir(key, attempt)
    folder.store.remove_all(place)
    with suppress(OSError):
        # Not empty: another attempt of this chunk is still at work.
        folder.store.local(place).parent.rmdir()


def _is_there(folder: JobFolder, place: str) -> bool:
    store = folder.store
    with store_call(place):
        if store.local(place).exists():
            return True
    return any(store.folders(place)) or bool(store.names(place))


def place_files(folder: JobFolder, claim: Sidecar) -> bool:
    """Give the winner's files their final names; return whether all have them.

    Raises:
        AttemptError: A file that another job or another chunk has published stands where one must be published.
    """
    store = folder.store
    foreign = []
    for file, placed in zip(claim.files, map_parallel(store, partial(_place, store), claim.files), strict=True):
        if not placed:
            if store.stat(file.attempt_path) is None:
                return False
            foreign.append(file)
    if foreign:
        _check_unpublished(folder, foreign, claim)
        if not all(_replace(folder, claim.key, file) for file in foreign):
            return False
    return True


def sync_targets(store: Store, winners: Iterable[Sidecar]) -> None:
    """Make the final names of the files of some chunks survive a power cut."""
    store.sync({file.path.rpartition("/")[0] for winner in winners for file in winner.files})


def _place(store: Store, file: PublishedFile) -> bool:
    """Give a file its final name; False when it cannot have it, and does not have it already."""
    with suppress(FileNotFoundError):
        if store.copy(file.attempt_path, file.path):
            return True
    return _is_ours(store, file.path, file)


def _is_ours(store: Store, location: str, file: PublishedFile) -> bool:
    there = store.stat(location)
    if there is None or there.size_bytes != file.size_bytes:
        return False
    # Quicker than reading it, while the attempt's name is still there.
    if there.identity is not None and (mine := store.stat(file.attempt_path)) and mine.identity == there.identity:
        return True
    return _has_content(store, there, file, trust_time=False)


def check_undeclared(folder: JobFolder, winner: Sidecar) -> None:
    """Refuse files that no output declares before they are claimed: a claim that cannot be finished bars its chunk."""
    store, undeclared = folder.store, winner.files[len(winner.files) - winner.also :]
    taken = map_parallel(
        store, lambda file: store.stat(file.path) is not None and not _is_intact(store, file), undeclared
    )
    names = {file.path for file, is_taken in zip(undeclared, taken, strict=True) if is_taken}
    if names:
        _check_other_chunks(folder, winner.key, names)


def _check_other_chunks(folder: JobFolder, key: str, targets: Collection[str]) -> None:
    """Refuse files that no output declares where another chunk of the job has published files of these names.

    Raises:
        AttemptError: The sentence names the file and that chunk.
    """
    for record in folder.all_records():
        for file in record.files if record.key != key else ():
            if file.path in targets:
                raise AttemptError(
                    f"also: {file.path} belongs to {describe_key(record.key)} and is another file; have the renderer "
                    "number such files, or narrow also",
                    fatal=True,
                    needs_change=True,
                )


def _check_unpublished(folder: JobFolder, foreign: list[PublishedFile], claim: Sidecar) -> None:
    """Refuse to replace files that another job has published, or another chunk."""
    if claim.also:
        _check_other_chunks(folder, claim.key, {file.path for file in foreign})
        if folder.read_job().if_exists is IfExists.REPLACE:
            # Planning has set aside what it could foresee; these names nobody knew before they were rendered.
            undeclared = claim.files[len(claim.files) - claim.also :]
            foreign = [file for file in foreign if file not in undeclared]
    makers = find_publishers([file.path for file in foreign], folder.store, exclude=folder.job_id)
    for location, job in makers.items():
        raise AttemptError(
            f"{location} stands where this job must publish, and job {job} has made it; move it away, then retry the "
            "job",
            fatal=True,
        )


def _replace(folder: JobFolder, key: str, file: PublishedFile) -> bool:
    """Set a foreign file aside and put ours in its place; False when ours is not to be had."""
    store = folder.store
    with suppress(FileNotFoundError):
        aside = folder.set_aside(file.path, f"{key}.{file.path.rpartition('/')[2]}")
        if _is_ours(store, aside, file):
            # Another attempt that finishes the same claim was quicker, and what was moved is its good file.
            store.copy(aside, file.path)
            store.remove(aside)
        else:
            _log.warning("job %s: %s is not what was rendered: moved to %s", folder.job_id, file.path, aside)
    return _place(store, file)


def clear_attempts(folder: JobFolder, key: str) -> None:
    """Remove the files of all attempts at a finished chunk, those of killed workers included."""
    folder.store.remove_all(folder.attempts_dir(key))
    KeptFrames(folder, key).remove()
