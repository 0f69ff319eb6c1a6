"""Check the rules on the films of a job: each broken rule is one sentence with the fix in it."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from longtake.models.audio import check_codecs
from longtake.models.encode_options import check_encode_options, check_timecode
from longtake.models.films import FILM_SETTINGS, FilmItem, Verification, name_film_field
from longtake.models.job_fields import IfExists, JobFields
from longtake.paths import FILM_SUFFIXES, MXF_RATES, OutputKind
from longtake.templates import JOB_PLACEHOLDERS, find_placeholders
from longtake.text import quote_value


def check_films(job: JobFields) -> None:
    """Raise ValueError unless the settings of each film fit each other and what the chunks are."""
    if job.film_only:
        _check_film_only(job)
    if isinstance(job.film, tuple):
        _check_list(job, job.film)
    for where, film in job.film_items:
        try:
            _check_film(job.select_film(film))
        except ValueError as error:
            raise ValueError(name_film_field(where, film, str(error))) from error


def _check_list(job: JobFields, films: tuple[FilmItem, ...]) -> None:
    """Raise unless each film has a path, and each setting of the job is of use to one of them."""
    if job.merge_command is not None:
        raise ValueError(
            "film: is a list, and a merge_command makes the film alone; leave one of them out, or have the command "
            "make the others besides"
        )
    for field in FILM_SETTINGS:
        is_set = getattr(job, field) != JobFields.model_fields[field].default
        if is_set and all(field in film.own for film in films):
            raise ValueError(f"{field}: is of no use, because each item of film has its own; leave it out")
    heirs = [index for index, film in enumerate(films) if film.output is None]
    if heirs and job.output is None:
        raise ValueError(f"film[{heirs[0]}].output: is missing; say where this film goes")
    if len(heirs) > 1:
        raise ValueError(
            f"film[{heirs[1]}].output: is missing, and film[{heirs[0]}] has the output of the job already; say where "
            "this film goes"
        )


def _check_film(job: JobFields) -> None:
    """Raise unless the settings of a job with one film fit each other and what the chunks are."""
    if job.merge_command is not None:
        _check_merge(job)
    elif job.output is None:
        for field, value in _settings(job):
            if value:
                raise ValueError(f"{field}: there is no film it could go into; add output")
        if _get_source(job) is not None:
            raise ValueError("film.from: there is no film it could make; add output")
        if job.verify is not Verification.SEAMS:
            raise ValueError("verify: there is no film to decode; add output, or leave verify out")
    else:
        _check_join(job, job.output)


def _check_film_only(job: JobFields) -> None:
    if not job.films:
        raise ValueError("film_only: there is no film to make; add output, or leave film_only out")
    if job.if_exists is not IfExists.REUSE:
        raise ValueError("film_only: takes over what other jobs have rendered; set if_exists to reuse")


def _settings(job: JobFields) -> Iterator[tuple[str, object]]:
    yield from (("audio", job.audio), ("encode", job.encode), ("colour", job.colour), ("drop", job.drop))


def _get_source(job: JobFields) -> str | None:
    return job.film_items[0][1].source


def _check_source(job: JobFields) -> None:
    """Raise unless the output that makes the film is one of the job's."""
    if job.film_source >= 0:
        return
    known = " or ".join(quote_value(template.label or template.path) for template in job.output_templates)
    raise ValueError(f"film.from: {quote_value(_get_source(job))} is none of the outputs; write {known}")


def _check_merge(job: JobFields) -> None:
    """Raise unless a job with a `merge_command` leaves the film to that command alone."""
    for field, value in (*_settings(job), ("film.from", _get_source(job))):
        if value:
            raise ValueError(f"{field}: is not for a merge_command, which makes the film alone; leave one of them out")
    allowed = ("output", *JOB_PLACEHOLDERS)
    arguments = job.merge_command or ()
    is_named = any("output" in find_placeholders(part, field="merge_command", allowed=allowed) for part in arguments)
    if job.output is None and is_named:
        raise ValueError("output: is missing, and merge_command names {output}; say where the film goes")
    if job.output is not None and not is_named:
        raise ValueError("merge_command: has no {output}; put it where the program is told what to write")


def _check_join(job: JobFields, output: str) -> None:
    suffix = PurePosixPath(output).suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise ValueError(
            f"output: {quote_value(output)} is no film; end it in one of {', '.join(sorted(FILM_SUFFIXES))}"
        )
    if suffix == ".mxf" and job.rate not in MXF_RATES:
        raise ValueError(
            f"fps: .mxf films hold no {job.fps} frames a second, but the rates of television and cinema up to 120 "
            "(SMPTE ST 326); write one such as 24, 25 or 30000/1001, or end output in .mov or .mkv"
        )
    _check_source(job)
    if job.film_kind is OutputKind.FILE:
        raise ValueError(
            "output: no film can be made of chunks that are neither video nor {frame} images; name them so, give a "
            "merge_command, or leave output out"
        )
    if job.encode and job.film_kind is not OutputKind.FRAMES:
        raise ValueError("encode: is for films of {frame} images, and video is joined as it is; leave it out")
    if job.colour is not None and job.film_kind is not OutputKind.FRAMES:
        raise ValueError("colour: is for films of {frame} images, and video is joined as it is; leave it out")
    if job.drop and job.film_kind is not OutputKind.VIDEO:
        raise ValueError("drop: is for films of video chunks, which hold streams; leave it out")
    check_encode_options(job.encode)
    check_timecode(job.encode, job.rate)
    check_codecs(job.audio_files, job.audio_tracks, suffix)
