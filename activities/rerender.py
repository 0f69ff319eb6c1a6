"""Frames of a finished job that are rendered anew: chunks that hold them are taken back, once for each request."""

import logging
from collections.abc import Iterator

from activities.stores.job_folder import OpenJob
from activities.stores.publish import revoke, revoke_chunk
from longtake.errors import BadJobError
from longtake.models.fields import Contract
from longtake.models.frames import Rerender
from longtake.ranges import format_ranges
from longtake.stores.job_layout import chunk_key, find_film_number

_log = logging.getLogger(__name__)


class RevokedOutput(Contract):
    """A chunk or a film that a request takes back."""

    key: str
    attempt: str
    frames: tuple[int, ...] = ()


class RerenderRecord(Contract):
    """The outputs that one request takes back, written down before the first of them is taken back."""

    outputs: tuple[RevokedOutput, ...] = ()


def revoke_frames(opened: OpenJob, request: Rerender) -> None:
    """Take back the finished chunks that hold the frames of a request, and the films.

    Safe to repeat, by several workers and long after: what was rendered for the request has other attempts than the
    record of the request names. Frames that are not asked for are kept as those of an interrupted chunk are; the files
    of the others, and the films, are moved aside.

    Raises:
        BadJobError: A frame is none of the job's.
    """
    folder = opened.folder
    location = folder.rerender_path(request.id)
    record = RerenderRecord(outputs=tuple(_find_outputs(opened, request)))
    if not folder.store.create(location, record.model_dump_json(exclude_defaults=True).encode()):
        record = RerenderRecord.model_validate_json(folder.store.read(location))
    for output in record.outputs:
        if find_film_number(output.key) is not None:
            revoke(folder, output.key, attempt=output.attempt)
        else:
            revoke_chunk(opened, int(output.key), attempt=output.attempt, without=frozenset(output.frames))
    _log.info("job %s: frames %s are rendered again", folder.job_id, request.frames)


def _find_outputs(opened: OpenJob, request: Rerender) -> Iterator[RevokedOutput]:
    wanted = request.numbers
    if lacking := opened.chunks.find_lacking(wanted):
        raise BadJobError(f"rerender.frames: {format_ranges(lacking)} are not among those of the job; name others")
    for chunk, frames in opened.chunks.find_frames(wanted).items():
        if (sidecar := opened.folder.sidecar(chunk_key(chunk))) is not None:
            yield RevokedOutput(key=sidecar.key, attempt=sidecar.attempt, frames=frames)
    for key in opened.folder.published_films():
        if (film := opened.folder.sidecar(key)) is not None:
            yield RevokedOutput(key=key, attempt=film.attempt)
