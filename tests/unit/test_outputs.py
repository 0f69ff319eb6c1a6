"""The outputs of a chunk: lists and names, views, the patterns of renderers, and which files are whose."""

from pathlib import Path
from typing import Any

import pytest

from longtake.chunks import Chunk, ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import read_job
from longtake.models.job import RenderJobSpec
from longtake.templates import compile_glob

BEAUTY, DEPTH = "beauty/{frame:04}.exr", "depth/{frame:04}.exr"


def document(**changes: Any) -> dict[str, Any]:
    frames = {"first": 1, "count": 6, "per_chunk": 3}
    values = {"frames": frames, "fps": 24, "command": ["render", "{start}", "{last}", "{output}"], "base_dir": "/films"}
    return {**values, "outputs": [BEAUTY, DEPTH], **changes}


def job(**changes: Any) -> RenderJobSpec:
    return read_job(document(**changes))


def command_of(job: RenderJobSpec, *command: str) -> tuple[str, ...]:
    chunk = ChunkPlan(job)[0]
    return chunk.expand_command(command, chunk.place_outputs(lambda path: f"/a/{path}"))


def test_the_files_of_a_chunk_are_those_of_one_output_after_the_other() -> None:
    chunk = ChunkPlan(job())[1]

    assert chunk.outputs() == (*(f"beauty/{n:04}.exr" for n in (4, 5, 6)), *(f"depth/{n:04}.exr" for n in (4, 5, 6)))
    assert (chunk.files_per_output, chunk.first_outputs) == (3, ("beauty/0004.exr", "depth/0004.exr"))


@pytest.mark.parametrize(
    "outputs",
    [
        [BEAUTY, DEPTH],
        {"beauty": BEAUTY, "depth": DEPTH},
        [{"path": BEAUTY}, {"name": "depth", "path": DEPTH}],
    ],
)
def test_outputs_are_a_list_or_have_names_and_travel_in_their_order(outputs: Any) -> None:
    told = job(outputs=outputs)
    again = read_job(told.to_wire())

    assert again == told
    assert again.digest() == told.digest() != job(outputs=[DEPTH, BEAUTY]).digest()
    assert [output.path for output in RenderJobSpec.model_validate(told.to_wire()).outputs] == [BEAUTY, DEPTH]


def test_a_command_names_each_output() -> None:
    named = job(outputs={"beauty": BEAUTY, "depth": DEPTH})
    words = ("{output}", "{output.beauty}", "{output_dir.depth}", "{output.depth}", "{output_hashes.depth}")

    assert command_of(named, *words) == (
        "/a/beauty/%04d.exr", "/a/beauty/%04d.exr", "/a/depth", "/a/depth/%04d.exr", "/a/depth/####",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "hashes"),
    [
        ("out/f_{frame:04}.png", "/a/out/f_####"),
        ("out/f_{frame}.png", "/a/out/f_#"),
        ("out/f.{frame:06}.exr", "/a/out/f.######"),
        ("out/{frame:04}", "/a/out/####"),
        ("v1.2/f.{frame:04}", "/a/v1.2/f.####"),
        ("out/f_{frame:04}_{view}.png", "/a/out/f_####"),
        ("out/f_{frame:04}{view}.png", "/a/out/f_####"),
        ("{view}/f_{frame:04}.png", "/a/L/f_####"),
    ],
)
def test_hashes_have_neither_extension_nor_view(path: str, hashes: str) -> None:
    views = {"views": ["L", "R"]} if "{view}" in path else {}

    assert command_of(job(outputs=[path], **views), "{output_hashes}") == (hashes,)


@pytest.mark.parametrize(
    ("command", "expanded"),
    [
        (("blender", "-b", "-o", "{output}", "-a"), ("blender", "-b", "-o", "/a/out/f_####.png", "-a")),
        (("/opt/blender-4.2/blender", "--render-output", "{output}"), ("--render-output", "/a/out/f_####.png")),
        (("nice", "blender", "-o", "{output.main}"), ("-o", "/a/out/f_####.png")),
        (("blender", "-o", "{output_hashes}"), ("-o", "/a/out/f_####")),
        (("blender", "-o", "{output_dir}/f_####"), ("-o", "/a/out/f_####")),
        (("blender", "-b", "--", "{output}"), ("--", "/a/out/f_%04d.png")),
        (("blender-3.6", "-o", "{output}"), ("-o", "/a/out/f_####.png")),
        (("flatpak", "run", "org.blender.Blender", "-o", "{output}"), ("-o", "/a/out/f_####.png")),
        (("ffmpeg", "-o", "{output}"), ("-o", "/a/out/f_%04d.png")),
        (("python", "start_blender.py", "-o", "{output}"), ("-o", "/a/out/f_%04d.png")),
    ],
)
def test_blender_gets_a_pattern_that_it_reads(command: tuple[str, ...], expanded: tuple[str, ...]) -> None:
    named = job(outputs={"main": "out/f_{frame:04}.png"})

    assert command_of(named, *command)[-len(expanded) :] == expanded


def test_a_video_of_blender_keeps_its_path() -> None:
    video = job(outputs=["out/{chunk}.mp4"])

    assert command_of(video, "blender", "-o", "{output}") == ("blender", "-o", "/a/out/0.mp4")


def test_views_are_outputs_of_their_own() -> None:
    stereo = job(outputs={"beauty": "b_{frame:04}_{view}.png", "depth": "{view}/d_{frame:04}.png"}, views=["L", "R"])
    chunk = ChunkPlan(stereo)[0].slice_frames(0, 1)

    assert chunk.outputs() == ("b_0001_L.png", "b_0001_R.png", "L/d_0001.png", "R/d_0001.png")
    assert command_of(stereo, "{output_dir.depth}", "{output_dir.depth.R}", "{output.beauty.R}") == (
        "/a/L",
        "/a/R",
        "/a/b_%04d_R.png",
    )
    alone = job(outputs=(), chunk_output="b_{frame:04}_{view}.png", views=["L", "R"])
    assert ChunkPlan(alone)[0].slice_frames(0, 1).outputs() == ("b_0001_L.png", "b_0001_R.png")


def test_an_output_of_the_job_makes_the_film() -> None:
    outputs = {"beauty": "{frame:04}_{view}.png", "depth": DEPTH}

    def source(**film: str) -> int:
        return job(outputs=outputs, views=["L", "R"], output="film.mp4", film=film).film_source

    assert source() == 0
    assert source(**{"from": "beauty"}) == 0
    assert source(**{"from": "beauty.R"}) == 1
    assert source(**{"from": "depth"}) == 2
    assert source(**{"from": DEPTH}) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"chunk_output": BEAUTY}, "chunk_output: stands beside outputs; make it the first of them"),
        ({"outputs": []}, "chunk_output: is missing"),
        ({"outputs": BEAUTY}, "outputs: is 'beauty/{frame:04}.exr'; write a list of paths, or names with paths"),
        ({"outputs": [1]}, "outputs: the item 0 is 1; write a path with placeholders"),
        ({"outputs": {"a": 1}}, "outputs: a: is 1; write a path with placeholders"),
        ({"outputs": [{"file": BEAUTY}]}, "outputs[0].file: is not a key of a job"),
        ({"outputs": ["{chunk}.json", "{chunk}.mp4"], "fps": None}, "fps: is missing; write the frame rate"),
        ({"outputs": {"a.b": BEAUTY}}, "outputs: 'a.b' is no name here; write letters, digits, _ and -"),
        ({"outputs": [BEAUTY, "depth/{chunk}.exr"]}, "outputs[1]: is one file of a chunk, and outputs[0] one of"),
        ({"outputs": [BEAUTY, "depth/x.exr"]}, "outputs[1]: is the same for every chunk"),
        ({"outputs": [BEAUTY, "./beauty/{frame}.exr"]}, "outputs[1]: './beauty/{frame}.exr' and outputs[0] would be"),
        ({"outputs": [BEAUTY, "/films/beauty/{frame}.exr"]}, "would be files of one name; give each output a path"),
        ({"outputs": ["a{frame}.exr", "a1{frame}.exr"]}, "outputs[1]: 'a1{frame}.exr' and outputs[0] would be"),
        ({"outputs": ["F_{frame}.exr", "f_{frame}.exr"]}, "more than a number or the case of letters to tell them"),
        ({"outputs": ["é{frame}.exr", "e\u0301{frame}.exr"]}, "and outputs[0] would be files of one name"),
        ({"outputs": ["f_{frame}_{view}.png"], "views": ["L", "l"]}, "views: 'l' stands twice"),
        ({"also": ["{output_dir}\\**"]}, "has a backslash, which is part of a name here; write '{output_dir}/**'"),
        ({"also": ["z_####.exr"]}, "also[0]: 'z_####.exr' numbers frames by ####; write * in its place"),
        ({"outputs": {"a": "f_%04d.png"}}, "outputs.a: 'f_%04d.png' numbers frames by %04d; write {frame:04} instead"),
        ({"outputs": {"a": "{fram}.png"}}, "outputs.a: the placeholder {fram} is not known here"),
        ({"outputs": ["f_{frame}_{view}.png"]}, "views: are missing, and outputs[0] has {view}; name them"),
        ({"views": ["L", "R"]}, "views: no output has {view}; write it into outputs"),
        ({"outputs": ["f_{frame}_{view}.png"], "views": ["L", "L"]}, "views: 'L' stands twice"),
        ({"outputs": ["f_{frame}_{view}.png"], "views": ["a/b"]}, "views: 'a/b' is no name here"),
        ({"command": ["render", "{output.dept}"]}, "command: the placeholder {output.dept} is not known here"),
        ({"film": {"from": "depth"}}, "film.from: there is no film it could make; add output"),
        ({"output": "a.mp4", "film": {"from": "z"}}, "film.from: 'z' is none of the outputs; write"),
        ({"output": "a.mp4", "film": {"form": "z"}}, "film.form: is not a key of a job; did you mean from?"),
        ({"output": "beauty/0002.exr", "merge_command": ["m", "{output}"]}, "output: chunk 0 writes this file too"),
        ({"output": "depth/0005.exr", "merge_command": ["m", "{output}"]}, "output: chunk 1 writes this file too"),
        ({"also": ["../x/**"]}, "also[0]: '../x/**' leads out of the folder of the job"),
        ({"also": ["{output}/**"]}, "also[0]: the placeholder {output} is not known here; did you mean {output_dir}?"),
        ({"also": ["**"], "outputs": ["/else/{frame}.exr"]}, "also: outputs[0] leads out of base_dir"),
    ],
)  # fmt: skip
def test_outputs_that_cannot_be_are_told_with_the_fix(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadJobError) as caught:
        read_job(document(**changes))

    assert sentence in str(caught.value)


def test_chunks_of_a_list_write_the_outputs_of_the_job() -> None:
    chunks = [{"start": 1, "count": 2}, {"start": 10, "count": 1}]
    plan: list[Chunk] = list(ChunkPlan(job(frames=None, chunks=chunks)))

    assert [chunk.first_outputs for chunk in plan] == [
        ("beauty/0001.exr", "depth/0001.exr"),
        ("beauty/0010.exr", "depth/0010.exr"),
    ]
    with pytest.raises(BadJobError, match=r"chunks\[0\].output: stands beside outputs"):
        job(frames=None, chunks=[{"start": 1, "count": 2, "output": "x_{frame}.exr"}])


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("{output_dir}/**", "out/a/f.txt", True),
        ("{output_dir}/**", "out/f.txt", True),
        ("{output_dir}/**", "other/f.txt", False),
        ("{output_dir}/*", "out/a/f.txt", False),
        ("{output_dir}/*.txt", "out/f.txt", True),
        ("**/f_{chunk:03}.?xt", "a/b/f_007.txt", True),
        ("**/f_{chunk:03}.?xt", "f_007.txt", True),
        ("**/f_{chunk:03}.?xt", "f_008.txt", False),
    ],
)
def test_patterns_name_files_at_any_depth(pattern: str, path: str, fits: bool) -> None:
    assert bool(compile_glob(pattern, {"output_dir": "out", "chunk": 7}).fullmatch(path)) is fits


def test_what_stands_in_a_folder_is_no_pattern() -> None:
    assert not compile_glob("{output_dir}/**", {"output_dir": "a*"}).fullmatch("ab/f")
    assert compile_glob("{output_dir}/**", {"output_dir": "a*[b]"}).fullmatch(str(Path("a*[b]/f")))
    assert compile_glob("{output_dir}/**", {"output_dir": ""}).fullmatch("f")
    assert compile_glob("{output_dir}/*", {"output_dir": "f_\x0104d"}).fullmatch("f_0017/x.txt")
