"""What is known of an image file or a sequence, how well it is proven, and what all images of a job must share."""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class ImageProof(StrEnum):
    """How well an image file is proven to be whole, the best first."""

    PIXELS = "pixels"
    STRUCTURE = "structure"
    CONTENT = "content"


class ImageFacts(BaseModel):
    """What was found in a sound picture; a size of 0 x 0 means that nothing here can read its kind.

    A sequence and a chunk's sidecar keep it of what their pictures have in common.
    """

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=0)
    height: int = Field(ge=0)
    format: str
    channels: str = Field("", description="Names of the channels, as RGB.")
    depth: str = Field("", description="One sample of a pixel, as 8-bit, half or float.")
    colour: str = Field("", description="Colour space, as far as the file says it.")
    proof: ImageProof = Field(ImageProof.CONTENT, description="How well it is proven to be whole.")

    @property
    def size(self) -> str:
        """Width and height, as people write them."""
        return f"{self.width}x{self.height}"

    def find_mismatch(self, other: "ImageFacts") -> str | None:
        """Find why this picture cannot stand beside `other` in one sequence; None when it can."""
        for name, words in _COMPARED.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "channels" and self.format in _DROPS_OPAQUE_ALPHA:
                mine, theirs = drop_alpha(mine), drop_alpha(theirs)
            # What was not read of one of them, as by an earlier version, tells nothing.
            if mine != theirs and (name == "colour" or (mine and theirs)):
                return f"has {words}: {mine or 'none'} instead of {theirs or 'none'}"
        return None


# Their encoders leave alpha out of each picture that is opaque: it tells nothing of how a sequence was made.
_DROPS_OPAQUE_ALPHA = frozenset({"WebP", "JPEG XL", "AVIF"})


def drop_alpha(channels: str) -> str:
    """Return names of channels without that of alpha."""
    return {"RGBA": "RGB", "grey and alpha": "grey"}.get(channels, channels)


_COMPARED = {
    "format": "another format",
    "size": "another size",
    "channels": "other channels",
    "depth": "another depth",
    "colour": "another colour space",
}


def find_weakest(proofs: Iterable[ImageProof]) -> ImageProof:
    """Find the weakest of some proofs."""
    return max(proofs, key=list(ImageProof).index)


def find_odd_ones(facts: Mapping[int, ImageFacts]) -> dict[int, str]:
    """Find the pictures that are unlike most, and what they have; of two halves the one that comes first is most."""
    kinds = Counter(one.model_copy(update={"proof": ImageProof.CONTENT}) for one in facts.values())
    if len(kinds) < 2:
        return {}
    (usual, _), *_ = kinds.most_common(1)
    problems = ((number, one.find_mismatch(usual)) for number, one in facts.items())
    return {number: problem for number, problem in problems if problem is not None}
