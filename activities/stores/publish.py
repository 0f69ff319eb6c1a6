"""Publishing: how one attempt's verified files become the result, for ever.

1. The *claim* names the winner: an exclusive create, so that of two attempts exactly one can win.
2. The winner's files get their final names.
3. The *sidecar* commits.

Whoever comes to a claim without a sidecar finishes steps 2 and 3 for the winner, so that a crash between any two
steps costs nothing and never mixes two attempts, also when a chunk has many files.
"""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from activities.errors import AttemptError
from activities.media.facts import MediaError
from activities.media.images import check_image
from activities.stores.job_folder import FILM, JobFolder, PublishedFile, Sidecar, chunk_key, read_record
from activities.stores.kept_frames import FinishedFrame, KeptFrames, signature_of
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.directory import file_digest
from longtake.stores.store import Store, map_parallel


def is_intact(store: Store, sidecar: Sidecar) -> bool:
    """Tell whether the published files are still there as they were published.

    A file of the right size and time, or for whose digest the store vouches, is believed; one of another time,
    restored or exchanged, is read to be sure.
    """
    return all(map_parallel(store, lambda file: _is_intact(store, file), sidecar.files))


def revoke(folder: JobFolder, key: str) -> None:
    """Take back a finished chunk whose files were damaged afterwards, so that what is damaged is rendered again.

    Of an image sequence all sound frames are kept, so that a later attempt renders only the others.
    """
    sidecar = folder.sidecar(key)
    if sidecar is None:
        return
    brought = folder.attempt_dir(key, "revoked")
    sound = _sound_frames(folder, sidecar, folder.store.local(brought))
    KeptFrames(folder, key).keep(sidecar.attempt, sound)
    folder.store.remove_all(brought)
    kept = {frame.frame for frame in sound}
    for frame, file in enumerate(sidecar.files):
        with suppress(FileNotFoundError):
            if frame in kept:
                folder.store.remove(file.path)
            else:
                folder.set_aside(file.path, f"{key}.{file.path.rpartition('/')[2]}")
    folder.set_aside(folder.sidecar_path(key), f"{key}.json")
    folder.store.remove(folder.claim_path(key))


def _is_intact(store: Store, file: PublishedFile) -> bool:
    there = store.stat(file.path)
    if there is None or there.size_bytes != file.size_bytes:
        return False
    if there.sha256 is not None:
        return there.sha256 == file.sha256
    with suppress(OSError):
        return file.modified_ns in (0, there.modified_ns) or store.digest(file.path) == file.sha256
    return False


def _sound_frames(folder: JobFolder, sidecar: Sidecar, place: Path) -> list[FinishedFrame]:
    """Return the files of an image sequence that still are what was published."""
    if sidecar.key == FILM or sidecar.video is not None or sidecar.width is None:
        return []
    sound = []
    for frame, file in enumerate(sidecar.files):
        with suppress(OSError, MediaError):
            path = folder.store.bring(file.path, place / Path(file.path).name, sha256=file.sha256)
            before = signature_of(path.stat())
            if file_digest(path) == file.sha256:
                sound.append(FinishedFrame(frame, path, check_image(path), before))
    return sound


def find_publisher(location: str, store: Store) -> str | None:
    """Return the job in this store that published a file, if one did."""
    return find_publishers([location], store).get(location)


def find_publishers(locations: Collection[str], store: Store, *, but: str | None = None) -> dict[str, str]:
    """Return which of these files a job in this store has published, or is publishing, and which job that is.

    Args:
        locations: The files.
        store: The store.
        but: A job that is not asked.
    """
    wanted = set(locations)
    makers: dict[str, str] = {}
    for folder in _folders(store):
        if folder.job_id == but:
            continue
        for record_path in _records(folder):
            record = read_record(store, record_path)
            for file in record.files if record is not None else ():
                if file.path in wanted:
                    makers.setdefault(file.path, folder.job_id)
    return makers


def find_reusable(folder: JobFolder, key: str, digest: str) -> str | None:
    """Return another job's sidecar of the same chunk of the same work, if its files are still what it published."""
    store = folder.store
    for other in _folders(store):
        sidecar = other.sidecar(key) if other.job_id != folder.job_id else None
        if sidecar is None or sidecar.digest != digest:
            continue
        if all(store.stat(file.path) and store.digest(file.path) == file.sha256 for file in sidecar.files):
            return other.sidecar_path(key)
    return None


def _records(folder: JobFolder) -> Iterator[str]:
    """Return the sidecars of a job, and the claims that have none yet."""
    done = set(map(chunk_key, folder.published()))
    if folder.store.stat(folder.sidecar_path(FILM)):
        done.add(FILM)
    yield from map(folder.sidecar_path, sorted(done))
    claimed = {name.removesuffix(".json") for name in folder.store.names(f"{folder.path}/claims")}
    yield from map(folder.claim_path, sorted(claimed - done))


def _folders(store: Store) -> Iterator[JobFolder]:
    for name in store.folders(f"{store.url}/{BOOKKEEPING_FOLDER}"):
        yield JobFolder(store, name)


_log = logging.getLogger(__name__)


def stage_files(folder: JobFolder, made: list[Path], place: str, targets: list[str]) -> tuple[PublishedFile, ...]:
    """Put an attempt's files into its own place in the store and return what is to be known of them.

    Args:
        folder: The job's.
        made: The files, below where this host writes for that place.
        place: The attempt's own.
        targets: Their final names, in the same order.

    Raises:
        AttemptError: Somebody writes to one although its renderer has ended.
    """
    files = zip(made, targets, strict=True)
    return tuple(map_parallel(folder.store, lambda file: _stage_file(folder.store, place, *file), files))


def _stage_file(store: Store, place: str, made: Path, target: str) -> PublishedFile:
    with made.open("rb") as file:
        os.fsync(file.fileno())
    before = made.stat()
    digest = file_digest(made)
    handed_in = f"{place}/{made.relative_to(store.local(place))}"
    store.put(made, handed_in, sha256=digest)
    if signature_of(made.stat()) != signature_of(before):
        raise AttemptError(f"{made.name} was written to while it was read to be published")
    return PublishedFile(
        path=target,
        attempt_path=handed_in,
        size_bytes=before.st_size,
        sha256=digest,
        modified_ns=before.st_mtime_ns if store.is_local else 0,
    )


def publish(folder: JobFolder, winner: Sidecar) -> Sidecar:
    """Publish verified files and return the sidecar that stands: this attempt's, or that of one which came first.

    Raises:
        AttemptError: A file that another job has published stands where one must be published.
    """
    winner = winner.model_copy(update={"published_at": datetime.now(UTC)})
    folder.store.create(folder.claim_path(winner.key), winner.model_dump_json(exclude_defaults=True, indent=1).encode())
    standing = finish_claim(folder, winner.key)
    if standing is None:
        raise AttemptError(f"the claim on {winner.key} was withdrawn while it was published")
    return standing


def finish_claim(folder: JobFolder, key: str) -> Sidecar | None:
    """Publish what the winner of a chunk could not finish; return the sidecar, or None where nobody has won yet."""
    if (sidecar := folder.sidecar(key)) is not None:
        if _is_there(folder, folder.frames_dir(key)) or _is_there(folder, folder.attempts_dir(key)):
            # Left by a crash right after the sidecar was written, or by an attempt that lost.
            _clear(folder, key)
        return sidecar
    claim = read_record(folder.store, folder.claim_path(key))
    if claim is None:
        return None
    if not _place_all(folder, claim):
        # The winner's files are gone with their attempt: somebody cleaned up. Nobody has won then.
        folder.store.remove(folder.claim_path(key))
        return None
    folder.store.create(folder.sidecar_path(key), claim.model_dump_json(exclude_defaults=True, indent=1).encode())
    _clear(folder, key)
    return folder.sidecar(key)


def discard_attempt(folder: JobFolder, key: str, attempt: str) -> None:
    """Remove what an attempt wrote, unless it has won and waits to be published."""
    claim = read_record(folder.store, folder.claim_path(key))
    if claim is not None and claim.attempt == attempt and folder.sidecar(key) is None:
        return
    place = folder.attempt_dir(key, attempt)
    folder.store.remove_all(place)
    with suppress(OSError):
        # Not empty: another attempt of this chunk is still at work.
        folder.store.local(place).parent.rmdir()


def _is_there(folder: JobFolder, place: str) -> bool:
    store = folder.store
    return store.local(place).exists() or any(store.folders(place)) or bool(store.names(place))


def _place_all(folder: JobFolder, claim: Sidecar) -> bool:
    """Give the winner's files their final names; False when one is neither there nor to be had."""
    store = folder.store
    strangers = []
    for file, placed in zip(claim.files, map_parallel(store, partial(_place, store), claim.files), strict=True):
        if not placed:
            if store.stat(file.attempt_path) is None:
                return False
            strangers.append(file)
    if strangers:
        _check_nobodys(folder, strangers)
        if not all(_replace(folder, claim.key, file) for file in strangers):
            return False
    store.sync({file.path.rpartition("/")[0] for file in claim.files})
    return True


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
    try:
        return store.digest(location) == file.sha256
    except FileNotFoundError:
        return False


def _check_nobodys(folder: JobFolder, strangers: list[PublishedFile]) -> None:
    """Pass when none of these files is the work of another job."""
    makers = find_publishers([file.path for file in strangers], folder.store, but=folder.job_id)
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


def _clear(folder: JobFolder, key: str) -> None:
    """Remove what the attempts of a finished chunk have left, those of killed workers included."""
    folder.store.remove_all(folder.attempts_dir(key))
    KeptFrames(folder, key).remove()
