"""Model the fields of a render job (frames, chunks, commands, outputs, policies), each with its own bounds."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Discriminator, Field, Tag

from longtake.models.audio import Audio, AudioTrack, DroppedStreams, list_tracks, name_files, rename_files
from longtake.models.backends import (
    LONGEST_CHUNK_SECONDS,
    Backend,
    BackendKind,
    RemoteBackend,
    backend_kind,
    remote_backend,
)
from longtake.models.colour import Colour
from longtake.models.fields import Arguments, Contract, FailureLimit, Line, Rate
from longtake.models.films import FilmItem, Films, FilmSpec, Verification
from longtake.models.frames import ChunkList, ChunkSpec, FrameRange, Rerender
from longtake.models.inputs import InputBundle
from longtake.models.notify import Receivers
from longtake.models.outputs import (
    MOST_ALSO,
    MOST_OUTPUTS,
    MOST_VIEWS,
    Outputs,
    OutputTemplate,
    expand_views,
    list_outputs,
)
from longtake.models.pictures import Pictures, PictureSpec
from longtake.models.policies import FailurePolicy, ProgressSpec, ResumeUnit, Retry, Timeouts
from longtake.paths import OutputKind, classify_output
from longtake.ranges import Range
from longtake.templates import fill_command, fill_path, fill_template

CONTRACT_VERSION = 1

# Of a list in a file: its chunks are compared with each other, which takes memory for each of them.
MOST_LISTED_CHUNKS = 100_000
# Each image file has a name, which planning makes and looks for: one line of a job file with 2,147,483,646 of them in
# one chunk had a worker build 147 GiB of names. 100,000 frames are an hour of film at 24 a second.
MOST_IMAGES_OF_CHUNK = 100_000
MOST_IMAGES = 10_000_000
LONGEST_NAME = 100
# Temporal terminates a workflow whose input passes 2 MiB; a list this long travels as a file instead.
LARGEST_INLINE_JOB_BYTES = 200_000


class IfExists(StrEnum):
    """Reactions of planning to files of others that have the paths of outputs."""

    REFUSE = "refuse"
    REUSE = "reuse"
    REPLACE = "replace"


def _rename_files(films: "JobFields | FilmItem", before: str, rename: Callable[[str, str], str]) -> dict[str, object]:
    """Return the fields of a job or of one of its films that name files, with other names in them."""
    changes: dict[str, object] = {"audio": rename_files(films.audio, partial(rename, f"{before}audio"))}
    if films.colour is not None and (file := films.colour.config_file) is not None:
        changes["colour"] = films.colour.model_copy(update={"config": rename(f"{before}colour.config", file)})
    return changes


def _form_of_chunks(value: object) -> str:
    return "file" if isinstance(value, dict | ChunkList) else "list"


def _form_of_inputs(value: object) -> str:
    return "bundle" if isinstance(value, dict | InputBundle) else "list"


Chunks = Annotated[
    Annotated[tuple[ChunkSpec, ...], Tag("list")] | Annotated[ChunkList, Tag("file")],
    Discriminator(_form_of_chunks),
]
Inputs = Annotated[
    Annotated[tuple[str, ...], Tag("list")] | Annotated[InputBundle, Tag("bundle")],
    Discriminator(_form_of_inputs),
]


class JobFields(Contract):
    """Fields of a render job and values that follow from them; `RenderJobSpec` adds the rules between fields."""

    contract: int = Field(default=CONTRACT_VERSION, ge=1, description="version of this model at the sender")
    name: Line = Field(default="job", max_length=LONGEST_NAME, description="what people call the job")
    frames: FrameRange | None = Field(default=None, description="frames to cut into chunks")
    chunks: Chunks | None = Field(default=None, description="chunks one by one")
    fps: Rate | None = Field(default=None, description="frame rate of the outputs")
    command: Arguments | None = Field(default=None, description="program and arguments that render a chunk")
    session: Arguments | None = Field(
        default=None,
        description="program that is started once and renders many chunks: it reads each command as a line",
    )
    chunk_output: str | None = Field(default=None, description="where a chunk's output is published")
    outputs: Outputs = Field(
        default=(), max_length=MOST_OUTPUTS, description="instead: several outputs of a chunk, as a list or with names"
    )
    views: Annotated[tuple[str, ...], Field(max_length=MOST_VIEWS)] = Field(
        default=(), description="views of a stereo picture, each with outputs of its own: {view}"
    )
    also: Annotated[tuple[str, ...], Field(max_length=MOST_ALSO)] = Field(
        default=(), description="patterns of files that a renderer may write besides, as in {output_dir}/**"
    )
    film: Films = Field(default=FilmSpec(), description="which output makes the film; or several films, as a list")
    output: str | None = Field(default=None, description="the film; absent: no stitch")
    encode: Arguments = Field(default=(), description="ffmpeg output options for a film of image files")
    colour: Colour | None = Field(default=None, description="conversion of the colours of image files for the film")
    merge_command: Arguments | None = Field(default=None, description="program that joins, instead of Longtake")
    audio: Audio | None = Field(default=None, description="sound of the whole film: a file, its settings, or a list")
    drop: DroppedStreams = Field(default=(), description="streams of chunks that the film may lack")
    verify: Verification = Field(default=Verification.SEAMS, description="which frames of the film are decoded")
    check: Arguments | None = Field(default=None, description="command that judges the output of a chunk")
    check_pixels: bool = Field(
        default=False, description="decode image files fully, and the last frame of videos, before they count as proven"
    )
    backend: Backend = Field(default="local", description="where chunks are rendered: local, lambda or cloud_run")
    max_parallel: int = Field(default=8, ge=1, le=10_000, description="chunks rendering at once, over all workers")
    start_paused: bool = Field(default=False, description="accept the job and render nothing until it is resumed")
    retry: Retry = Retry()
    on_chunk_failure: FailurePolicy = FailurePolicy.FAIL
    max_failed_chunks: FailureLimit | None = Field(default=None, description="with `continue`: fail when more did; 10%")
    allow_gaps: bool = Field(default=False, description="make the film although chunks failed (`continue`)")
    timeouts: Timeouts = Timeouts()
    progress: ProgressSpec = ProgressSpec()
    resume: ResumeUnit = Field(default=ResumeUnit.FRAMES, description="what of an interrupted image sequence is kept")
    pictures: Pictures = Field(default=PictureSpec(), description="small pictures that finished chunks leave; none")
    notify: Receivers = Field(default=(), description="who is told of its start, pauses, failures and end")
    report: bool = Field(default=False, description="write a report beside the job's records when the job ends")
    env: dict[str, str] = Field(default={}, description="environment of the renders, beside the allow list")
    base_dir: str | None = Field(default=None, description="folder that relative paths start from: the store")
    store: str | None = Field(default=None, description="s3://bucket/prefix, to publish there and not in base_dir")
    inputs: Inputs = Field(default=(), description="files and folders that renders read, below base_dir")
    if_exists: IfExists = IfExists.REFUSE
    film_only: bool = Field(default=False, description="render nothing: make the film of chunks that are there already")
    started_at: AwareDatetime | None = Field(
        default=None, description="when the job was started first: what {date} and {time} stand for"
    )
    rerender: Rerender | None = Field(default=None, description="frames of a finished job to be rendered anew")
    only: Annotated[tuple[Range, ...], Field(max_length=1000)] = Field(
        default=(), description="chunks to render of a job that was started again; without the others it has no film"
    )

    def failure_limit(self, chunk_count: int) -> int | None:
        """Return the number of chunks that may fail before the job fails; None without a limit."""
        limit = self.max_failed_chunks
        if limit is None or isinstance(limit, int):
            return limit
        return int(Fraction(limit.rstrip("%")) * chunk_count / 100)

    def fill_placeholders(self, values: Mapping[str, str]) -> Self:
        """Return the job with `{job}`, `{date}` and `{time}` replaced in its name, its paths and its commands.

        Args:
            values: What they stand for, as `names.find_job_values` returns it.
        """
        filled: dict[str, Any] = {"name": self.fill_name(values)}
        filled |= {key: fill_path(getattr(self, key), values) for key in ("chunk_output", "output")}
        filled["outputs"] = tuple(
            output.model_copy(update={"path": fill_template(output.path, values)}) for output in self.outputs
        )
        filled["also"] = tuple(fill_template(pattern, values) for pattern in self.also)
        if isinstance(self.film, tuple):
            filled["film"] = tuple(
                item.model_copy(update={"output": fill_path(item.output, values)}) for item in self.film
            )
        commands = ("command", "session", "merge_command", "check")
        filled |= {key: fill_command(getattr(self, key), values) for key in commands}
        if isinstance(self.chunks, tuple):
            filled["chunks"] = tuple(chunk.fill_placeholders(values) for chunk in self.chunks)
        return self.model_copy(update=filled)

    def fill_name(self, values: Mapping[str, str]) -> str:
        """Return the name with `{job}`, `{date}` and `{time}` replaced; other braces in it are text."""
        name = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), self.name)
        return name[:LONGEST_NAME]

    @property
    def inline_chunks(self) -> tuple[ChunkSpec, ...]:
        """Explicit chunks that the job carries itself; empty for frames and for lists in files."""
        # No tuple where the chunks of a file are checked by the rules of a job, one after the other.
        return () if self.chunks is None or isinstance(self.chunks, ChunkList) else self.chunks

    @property
    def chunk_list(self) -> ChunkList | None:
        """Reference to the file with the explicit chunks; None if there is no such file."""
        return self.chunks if isinstance(self.chunks, ChunkList) else None

    @property
    def chunk_count(self) -> int:
        """Number of chunks of the job."""
        if self.frames is not None:
            return self.frames.chunk_count
        return self.chunk_list.count if self.chunk_list else len(self.inline_chunks)

    @property
    def output_templates(self) -> tuple[OutputTemplate, ...]:
        """Outputs of each chunk, the main one first; none where each chunk of a list has its own."""
        return list_outputs(self.outputs, self.chunk_output, self.views)

    def templates_of(self, chunk: ChunkSpec) -> tuple[OutputTemplate, ...]:
        """Return the outputs of a chunk of a list, the main one first."""
        if chunk.output is None or self.outputs:
            return self.output_templates
        return tuple(expand_views("chunk_output", chunk.output, "", self.views))

    @property
    def output_field(self) -> str:
        """Key that names the outputs of chunks, for errors."""
        return "outputs" if self.outputs else "chunk_output"

    @property
    def kind(self) -> OutputKind:
        """Kind of the chunks' outputs, by the name of the first output."""
        first = self.inline_chunks[0].output if self.inline_chunks and not self.outputs else None
        return classify_output(first or (self.outputs[0].path if self.outputs else self.chunk_output) or "")

    @property
    def film_items(self) -> tuple[tuple[str, FilmSpec], ...]:
        """Settings of each film, each behind the key that names them."""
        if isinstance(self.film, FilmSpec):
            return (("film", self.film),)
        return tuple((f"film[{index}]", item) for index, item in enumerate(self.film))

    def select_film(self, film: FilmSpec) -> Self:
        """Return this job with one film alone, whose own settings are those of the job."""
        if film is self.film:
            return self
        return self.model_copy(update={"film": FilmSpec(source=film.source), **film.own})

    @property
    def films(self) -> tuple[Self, ...]:
        """This job with each of its films alone; none where the chunks stay as they are."""
        films = (self.select_film(film) for _, film in self.film_items)
        return tuple(film for film in films if film.output is not None or film.merge_command is not None)

    @property
    def film_outputs(self) -> tuple[tuple[str, str], ...]:
        """Paths of the films, each behind the name of its field."""
        if isinstance(self.film, FilmSpec):
            return () if self.output is None else (("output", self.output),)
        paths = ((f"{where}.output", self.select_film(film).output) for where, film in self.film_items)
        return tuple((field, path) for field, path in paths if path is not None)

    @property
    def film_source(self) -> int:
        """Which output of a chunk makes the film (the first of several), from 0; -1 where `film.from` names none."""
        wanted = self.film_items[0][1].source
        if wanted is None:
            return 0
        templates = self._main_templates
        named = [index for index, template in enumerate(templates) if wanted in template.names]
        return next(iter(named), next((index for index, each in enumerate(templates) if each.path == wanted), -1))

    @property
    def _main_templates(self) -> tuple[OutputTemplate, ...]:
        """Outputs of the first chunk; those of all chunks are alike."""
        return self.templates_of(self.inline_chunks[0]) if self.inline_chunks else self.output_templates

    @property
    def film_kind(self) -> OutputKind:
        """Kind of the outputs that make the film."""
        return classify_output(self._main_templates[self.film_source].path) if self.film_source > 0 else self.kind

    @property
    def backend_kind(self) -> BackendKind:
        """Kind of the backend that renders the chunks."""
        return backend_kind(self.backend)

    @property
    def chunk_limit_seconds(self) -> float:
        """Longest time of one try of a chunk: the job's timeout, or the shorter lifetime of its backend."""
        return min(self.timeouts.chunk_seconds, LONGEST_CHUNK_SECONDS.get(self.backend_kind, math.inf))

    @property
    def remote(self) -> RemoteBackend | None:
        """Settings of the remote backend; None if workers render themselves."""
        return remote_backend(self.backend)

    @property
    def audio_tracks(self) -> tuple[AudioTrack, ...]:
        """Sounds of the whole film, in whichever form the job names them."""
        return list_tracks(self.audio)

    @property
    def audio_files(self) -> tuple[tuple[str, str], ...]:
        """Files of the sounds of all films, each behind the name of its field."""
        own = ((f"{where}.audio", film.own.get("audio")) for where, film in self.film_items)
        return tuple(named for field, audio in (("audio", self.audio), *own) for named in name_files(field, audio))

    @property
    def colour_files(self) -> tuple[tuple[str, str], ...]:
        """Files of configurations of colours, each behind the name of its field; none of those that are built in."""
        own = ((f"{where}.colour", film.own.get("colour")) for where, film in self.film_items)
        named = ((field, colour and colour.config_file) for field, colour in (("colour", self.colour), *own))
        return tuple((f"{field}.config", file) for field, file in named if file)

    def rename_film_files(self, rename: Callable[[str, str], str]) -> Self:
        """Return the job with other names of the files that its films read.

        Args:
            rename: Returns the new name of a file, behind the name of its field.
        """
        changes: dict[str, Any] = _rename_files(self, "", rename)
        if isinstance(self.film, tuple):
            changes["film"] = tuple(
                item.model_copy(update=_rename_files(item, f"{where}.", rename))
                for (where, _), item in zip(self.film_items, self.film, strict=True)
            )
        return self.model_copy(update=changes)

    @property
    def rate(self) -> Fraction:
        """Frame rate as an exact number; 1 for jobs without one."""
        return Fraction(self.fps or 1)

    def digest(self) -> str:
        """Return the SHA-256 of all fields that decide the outputs: jobs with one digest render the same files."""
        work = self.model_dump(mode="json", include=_WORK, exclude_defaults=True)
        if isinstance(self.inputs, InputBundle):
            # It says nothing that is not in the digest of the whole manifest.
            work["inputs"].pop("render_sha256", None)
        if isinstance(self.film, tuple):
            # Which frames are decoded makes no other film.
            work["film"] = [{key: value for key, value in film.items() if key != "verify"} for film in work["film"]]
        return hashlib.sha256(json.dumps(work, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def dump_chunk_work(self) -> dict[str, Any]:
        """Return the values that decide the outputs of every chunk, beside what `chunks.Chunk` holds of its own."""
        shared = CHUNK_FIELDS - _FIELDS_OF_CHUNK
        if self.kind is not OutputKind.VIDEO:
            # Image files and others have no rate.
            shared -= {"fps"}
        work = self.model_dump(mode="json", include=set(shared), exclude_defaults=True)
        if isinstance(self.inputs, InputBundle):
            manifest = self.inputs.render_sha256
            work["inputs"] = self.inputs.sha256 if manifest is None else manifest
        # A bundle may hold nothing but sounds and colour settings of the film.
        return {field: value for field, value in work.items() if value != ""}

    def to_wire(self) -> dict[str, Any]:
        """Return the job as plain JSON values, without fields at their defaults."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"contract": CONTRACT_VERSION}

    def wire_size_bytes(self) -> int:
        """Return the size of the job as JSON text, to be compared with `LARGEST_INLINE_JOB_BYTES`."""
        return len(json.dumps(self.to_wire()))


# Fields that decide the outputs; those on retries, parallelism and failures do not.
_WORK = {
    "frames", "chunks", "fps", "command", "session", "chunk_output", "outputs", "views", "also", "film", "output",
    "encode", "colour", "merge_command", "audio", "drop", "check", "env", "base_dir", "store", "inputs",
}  # fmt: skip

# Those of them that decide the film alone: jobs that differ in no others render the same chunks.
FILM_FIELDS = frozenset({"film", "output", "encode", "colour", "merge_command", "audio", "drop"})

# Those that decide the chunks.
CHUNK_FIELDS = frozenset(_WORK) - FILM_FIELDS

# Those of them that decide what each chunk is; `chunks.ChunkPlan` makes the chunks of them.
_FIELDS_OF_CHUNK = frozenset({"frames", "chunks", "command", "chunk_output", "outputs", "views"})
