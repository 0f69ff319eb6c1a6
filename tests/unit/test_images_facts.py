"""Pictures of one sequence are alike, and the ones that are not are named with both values."""

import pytest

from activities.media.images.facts import ImageFacts, ImageProof, find_odd_ones, find_weakest

USUAL = ImageFacts(width=320, height=180, format="PNG", channels="RGB", depth="8-bit", colour="sRGB")


def other(**values: object) -> ImageFacts:
    return USUAL.model_copy(update=values)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"format": "JPEG"}, "has another format: JPEG instead of PNG"),
        ({"width": 160, "height": 90}, "has another size: 160x90 instead of 320x180"),
        ({"channels": "RGBA"}, "has other channels: RGBA instead of RGB"),
        ({"depth": "16-bit"}, "has another depth: 16-bit instead of 8-bit"),
        ({"colour": ""}, "has another colour space: none instead of sRGB"),
    ],
)
def test_a_picture_that_is_unlike_is_named_with_both_values(values: dict[str, object], problem: str) -> None:
    assert other(**values).find_mismatch(USUAL) == problem


def test_what_was_not_read_of_a_picture_makes_it_no_other() -> None:
    assert other(channels="", depth="").find_mismatch(USUAL) is None


@pytest.mark.parametrize("kind", ["WebP", "JPEG XL", "AVIF"])
def test_an_opaque_picture_may_stand_beside_transparent_ones_where_encoders_leave_alpha_out(kind: str) -> None:
    opaque = other(format=kind)
    transparent = opaque.model_copy(update={"channels": "RGBA"})
    assert opaque.find_mismatch(transparent) is None
    assert transparent.find_mismatch(opaque) is None
    assert opaque.find_mismatch(opaque.model_copy(update={"channels": "grey"})) is not None
    assert find_odd_ones({0: opaque, 1: transparent, 2: opaque}) == {}


def test_most_decide_what_is_usual_and_of_two_halves_the_first() -> None:
    odd = other(width=160)
    assert list(find_odd_ones({0: odd, 1: USUAL, 2: USUAL})) == [0]
    assert list(find_odd_ones({0: USUAL, 1: odd})) == [1]
    assert find_odd_ones({0: USUAL, 3: USUAL}) == {}
    assert find_odd_ones({}) == {}


def test_how_well_pictures_are_proven_makes_them_no_others() -> None:
    proven = other(proof=ImageProof.PIXELS)
    assert proven.find_mismatch(USUAL) is None
    assert find_odd_ones({0: USUAL, 1: proven}) == {}


def test_a_sequence_is_proven_as_well_as_its_weakest_picture() -> None:
    assert find_weakest(list(ImageProof)) is ImageProof.CONTENT
    assert find_weakest([ImageProof.PIXELS, ImageProof.STRUCTURE]) is ImageProof.STRUCTURE
