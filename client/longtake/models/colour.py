"""Model the colours of a film of image files: from which colour space to which, by OpenColorIO."""

from typing import Annotated

from pydantic import AfterValidator, Field

from longtake.models.fields import Contract, Line
from longtake.text import quote_value

# Built into OpenColorIO; named by its version, so that a newer library makes the same film.
DEFAULT_CONFIG = "ocio://studio-config-v4.0.0_aces-v2.0_ocio-v2.5"
BUILT_IN = "ocio://"


def _as_config(value: str) -> str:
    if value.startswith(BUILT_IN) or value.endswith((".ocio", ".ocioz")):
        return value
    raise ValueError(
        f"is {quote_value(value)}; name a file that ends in .ocio or .ocioz, or a configuration such as ocio://default"
    )


class Colour(Contract):
    """Conversion of image files on their way into the film."""

    input: Line = Field(description="colour space of the files, such as linear, ACEScg or sRGB")
    output: Line = Field(description="colour space of the film, such as Rec.709 or Rec.2100-PQ")
    view: Line | None = Field(default=None, description="view of the display that output names, for its tone mapping")
    config: Annotated[Line, AfterValidator(_as_config)] = Field(
        default=DEFAULT_CONFIG, description="configuration of OpenColorIO: a file, or one that is built in"
    )

    @property
    def config_file(self) -> str | None:
        """File of the configuration; None for those that are built in."""
        return None if self.config.startswith(BUILT_IN) else self.config
