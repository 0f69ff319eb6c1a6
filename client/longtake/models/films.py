"""Model the films of a job: which output makes each of them, and the settings that one of several has of its own."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from longtake.models.audio import Audio, DroppedStreams
from longtake.models.colour import Colour
from longtake.models.fields import Arguments, Contract

# More than a delivery has of one picture; each is encoded and proven for itself.
MOST_FILMS = 20


class Verification(StrEnum):
    """Frames of a finished film that are decoded, and compared with those of the chunks."""

    SEAMS = "seams"
    FULL = "full"


class FilmSpec(Contract):
    """Settings of the film that are not those of its encoder."""

    model_config = ConfigDict(populate_by_name=True)

    source: str | None = Field(default=None, alias="from", description="the output that makes the film")

    @model_serializer(mode="wrap")
    def _serialize(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        source = values.pop("source", values.pop("from", None))
        values = {name: value for name, value in values.items() if value is not None}
        return values if source is None else {"from": source, **values}

    @property
    def own(self) -> dict[str, Any]:
        """Values of the fields of a job that this film has for itself."""
        return {}


class FilmItem(FilmSpec):
    """One of several films; what it leaves out comes from the field of the job that has the same name."""

    output: str | None = Field(default=None, description="path of the film")
    encode: Arguments | None = Field(default=None, description="ffmpeg output options for a film of image files")
    colour: Colour | None = Field(default=None, description="conversion of the colours of image files for the film")
    audio: Audio | None = Field(default=None, description="sound of the whole film: a file, its settings, or a list")
    drop: DroppedStreams | None = Field(default=None, description="streams of chunks that the film may lack")
    verify: Verification | None = Field(default=None, description="which frames of the film are decoded")

    @property
    def own(self) -> dict[str, Any]:
        """Values of the fields of a job that this film has for itself."""
        return {name: value for name in FILM_SETTINGS if (value := getattr(self, name)) is not None}


# Fields of a job that each of several films may have for itself.
FILM_SETTINGS = tuple(name for name in FilmItem.model_fields if name != "source")


def _form_of_film(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "section"


Films = Annotated[
    Annotated[FilmSpec, Tag("section")]
    | Annotated[tuple[FilmItem, ...], Tag("list"), Field(min_length=1, max_length=MOST_FILMS)],
    Discriminator(_form_of_film),
]


def name_film_field(where: str, film: FilmSpec, sentence: str) -> str:
    """Return a sentence on a field of one film, with the field named as the job file has it.

    Args:
        where: Key of the film, such as `film[1]`.
        film: Its settings.
        sentence: `field: what is wrong; the fix`, the field being that of a job with this film alone.
    """
    field = re.split(r"[.:\[]", sentence, maxsplit=1)[0]
    if field == "film":
        return where + sentence.removeprefix("film")
    return f"{where}.{sentence}" if field in film.own else sentence
