"""Files of other names than the outputs: what the renderer has done, and what mends it.

The names are those that Blender 3.4 and ffmpeg 5.1 wrote with these words.
"""

import pytest

from activities.attempts.name_hints import find_name_hint
from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate


def hint(path: str, expected: str, *written: str, command: tuple[str, ...] = ("render", "{output}")) -> str | None:
    template = OutputTemplate("chunk_output", path)
    chunk = Chunk(index=3, frames=range(30, 40), templates=(template,), command_template=command)
    return find_name_hint(chunk, template, expected, written)


BLENDER = ("/opt/blender/blender", "-b", "scene.blend", "-o")


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        (
            ["f_%04d.png0030.png"],
            "does not read %04d in {output}; write {output_hashes}, which has #### and no extension",
        ),
        (["f_####.png"], "does not read ####; write {output}, which has %04d and the like"),
        (["f_0030", "f_0031"], "adds no .png; tell it the name with its extension"),
        (["f_0030.png.png"], "adds a number or an extension by itself, and made f_0030.png.png; write {output_hashes}"),
        (["f_0030.png0030.png"], "adds a number or an extension by itself"),
        (["f_0030.exr"], "writes .exr files; end the path of the output in .exr, or have it write .png"),
        (["f_30.png", "f_31.png"], "frame 30 as 30, and the output has 0030; write {frame} in the path of the output"),
        (["f_000030.png"], "frame 30 as 000030, and the output has 0030; write {frame:06} in the path of the output"),
        (["out\\f_0030.png"], "a backslash is part of the name 'out\\\\f_0030.png' here; write / in the command"),
        (["F_0030.PNG"], "writes F_0030.PNG, with letters of another case; write the path of the output so"),
        (
            ["f_0030-0039.mp4"],
            "wrote a film, f_0030-0039.mp4; have it write .png files, as by Blender's -F PNG, or write the path of the "
            "output as of one film a chunk, as chunks/{chunk:06}.mp4",
        ),
        (["f_0001.png", "f_0002.png"], "numbers its files from 1, and this chunk begins with 30; tell it so"),
        (
            ["f_0030_L.png", "f_0030_R.png", "f_0031_L.png"],
            "write views: [L, R] and the path of the output as out/f_{frame:04}_{view}.png",
        ),
        (
            ["f_0030left.png", "f_0030right.png"],
            "views: [left, right] and the path of the output as out/f_{frame:04}{view}",
        ),
        (["f_0030_depth.png"], "adds _depth to each name; write it into the path of the output"),
    ],
)
def test_usual_mistakes_are_told_with_the_fix(written: list[str], fix: str) -> None:
    assert fix in (hint("out/f_{frame:04}.png", "f_0030.png", *written) or "")


@pytest.mark.parametrize(
    ("words", "written", "fix"),
    [
        (
            (*BLENDER, "{output_dir}/f_####", "-x", "0"),
            ["f_0030"],
            "Blender adds no .png because of -x 0; leave -x out",
        ),
        (
            (*BLENDER, "//out/f_####", "{output_dir}"),
            [],
            "Blender writes //out/f_#### beside its scene; write {output}",
        ),
    ],
)
def test_mistakes_with_blender_are_told_in_its_words(words: tuple[str, ...], written: list[str], fix: str) -> None:
    assert fix in (hint("out/f_{frame:04}.png", "f_0030.png", *written, command=words) or "")


@pytest.mark.parametrize(
    ("path", "fix"),
    [("out/{frame:04}/f_{frame:04}.png", "out/f_{frame:04}.png"), ("{frame}/beauty.png", "beauty_{frame:04}.png")],
)
def test_numbers_of_folders_are_not_for_blender(path: str, fix: str) -> None:
    said = hint(path, "f_0030.png", "f_0030.png", command=(*BLENDER, "{output}"))
    assert said == f"Blender numbers files and no folders; write the path of the output as {fix}"


def test_names_that_look_alike_are_told_apart() -> None:
    said = hint("out/\xe9_{frame:04}.png", "\xe9_0030.png", "e\u0301_0030.png") or ""
    assert said.startswith("'e\\u0301_0030.png' and '\\xe9_0030.png' look alike; write the path of the output as the")
    assert said.endswith("in Unicode's form NFD")


def test_a_renderer_that_begins_one_frame_too_early_is_told_where_some_names_are_right() -> None:
    template = OutputTemplate("chunk_output", "f_{frame:04}.png")
    chunk = Chunk(index=0, frames=range(1, 4), templates=(template,), command_template=("render", "{output}"))

    said = find_name_hint(chunk, template, "f_0003.png", ["f_0000.png"], frame=2, is_partial=True) or ""
    assert said.startswith("the renderer numbers its files from 0, and this chunk begins with 1")


def test_numbers_below_0_mean_something_else_behind_options_of_blender() -> None:
    output = OutputTemplate("chunk_output", "f_{frame:04}.png")
    command = ("blender", "-b", "-o", "{output}", "-s", "{start}", "-e", "{last}", "-a")
    chunk = Chunk(index=0, frames=range(-5, 2), templates=(output,), command_template=command)

    said = find_name_hint(chunk, output, "f_-005.png", ["f_-0004.png"]) or ""
    assert said.startswith("Blender takes a number below 0 behind -s for so many frames from those of its scene")


@pytest.mark.parametrize(
    ("template", "expected", "written", "fix"),
    [
        ("f_{frame:4}.png", "f_  -5.png", "f_-005.png", "frame -5 as -005, and the output has   -5; write {frame:04}"),
        ("f_{frame:04}.png", "f_-005.png", "f_-0005.png", "as -0005, and the output has -005; write {frame:05}"),
        ("f_{frame:04}.png", "f_-005.png", "f_-5.png", "as -5, and the output has -005; write {frame} in the path"),
    ],
)
def test_widths_of_numbers_below_0_and_those_filled_with_blanks_are_told(
    template: str, expected: str, written: str, fix: str
) -> None:
    output = OutputTemplate("chunk_output", template)
    chunk = Chunk(index=0, frames=range(-5, 2), templates=(output,), command_template=("render", "{output_dir}"))

    assert fix in (find_name_hint(chunk, output, expected, [written]) or "")


@pytest.mark.parametrize(("path", "name"), [("out/f_{frame:04}", "f_0030"), ("out/f.{frame:04}", "f.0030")])
def test_an_output_without_an_extension_gets_that_of_the_renderer(path: str, name: str) -> None:
    said = "the renderer adds .png; end the path of the output in .png"
    assert hint(path, name, f"{name}.png", command=BLENDER) == said


def test_a_width_that_fits_some_numbers_only_is_told_by_the_first_that_it_does_not_fit() -> None:
    template = OutputTemplate("chunk_output", "f_{frame:02}.png")
    chunk = Chunk(index=0, frames=range(8, 12), templates=(template,), command_template=("render", "{output_dir}"))

    said = find_name_hint(chunk, template, "f_09.png", ["f_9.png"], frame=1, is_partial=True)
    assert said is not None
    assert find_name_hint(chunk, template, "f_09.png", ["f_09_z.png"], frame=1, is_partial=True) is None
    assert said.startswith("the renderer writes frame 9 as 9, and the output has 09; write {frame} in the path")


@pytest.mark.parametrize("written", [[], ["log.txt"], ["g_0030.png"], ["f_0035.png"]])
def test_other_names_are_not_explained(written: list[str]) -> None:
    assert hint("out/f_{frame:04}.png", "f_0030.png", *written) is None


def test_names_of_other_kinds_are_not_explained() -> None:
    assert hint("out/{chunk}.mp4", "3.mp4", "3.mov") is None
