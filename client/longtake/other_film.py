"""Make a job for another film of the chunks that a job before it has rendered."""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from longtake.errors import BadJobError
from longtake.jobfile.loader import read_job, set_value
from longtake.models.films import FILM_SETTINGS
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import CHUNK_FIELDS, IfExists
from longtake.models.status import JobStatus
from longtake.names import find_job_values
from longtake.paths import OutputKind
from longtake.text import quote_value
from longtake.transfer.upload_inputs import needs_upload

# Keys that name files which the films of a job read.
_FILE_KEYS = frozenset({"audio", "audio.file", "colour", "colour.config", "film"})


def build_film_job(document: Mapping[str, Any], status: JobStatus, values: Mapping[str, Any]) -> RenderJobSpec:
    """Build the job of another film: that of the chunks, with other values, which renders nothing.

    Args:
        document: The job of the chunks, as it was submitted.
        status: Its status.
        values: Values that are other than in that job, by key; dots reach into sections (`audio.file`).

    Raises:
        BadJobError: The job has not ended, or a value decides the chunks or is none.
    """
    if not status.state.has_ended:
        raise BadJobError(
            f"{status.id} is {status.state}, and films are made of jobs that have ended; wait for that, or cancel it"
        )
    chunks = read_job(dict(document))
    # Its outputs are named after itself and its first start, which are not those of the new job.
    chunks = chunks.fill_placeholders(find_job_values(status.id, status.started_at))
    rest = {
        "started_at": None, "start_paused": False, "if_exists": IfExists.REUSE, "film_only": True, "rerender": None,
        "only": (),
    }  # fmt: skip
    if status.result is not None and status.result.missing_chunks:
        rest["allow_gaps"] = True
    changed = chunks.model_copy(update=rest).to_wire()
    # Behind the contract of a program, keys that are not known would be passed over.
    del changed["contract"]
    for key, value in values.items():
        _check_key(key, chunks)
        set_value(changed, key, value)
    if isinstance(films := values.get("film"), list):
        # What each of several films has for itself was that of the one before.
        for field in FILM_SETTINGS:
            if field not in values and all(isinstance(film, dict) and field in film for film in films):
                changed.pop(field, None)
    return _locate_files(read_job(changed), values.keys())


def _locate_files(job: RenderJobSpec, keys: Collection[str]) -> RenderJobSpec:
    """Return a job in a bucket with the new files of its films named from the root: its old ones are in the bucket."""
    if not needs_upload(job):
        return job
    new = {key.partition(".")[0] for key in keys if key in _FILE_KEYS}

    def locate(field: str, name: str) -> str:
        return os.path.join(os.getcwd(), name) if re.split(r"[.\[]", field, maxsplit=1)[0] in new else name

    return job.rename_film_files(locate)


def _check_key(key: str, chunks: RenderJobSpec) -> None:
    section = key.partition(".")[0]
    if section in CHUNK_FIELDS and not (section == "fps" and chunks.kind is not OutputKind.VIDEO):
        raise BadJobError(
            f"{quote_value(key)}: decides the chunks, which are rendered already; submit a job of its own for that, or "
            "set output, film, encode, colour, audio, merge_command, drop or verify here"
        )
