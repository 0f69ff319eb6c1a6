"""Films of a job: what each of several takes from the job, their digests, and what is refused."""

from typing import Any

import pytest

from longtake import BadJobError, RenderJobSpec, read_job
from longtake.chunks import ChunkPlan

BEAUTY = {"from": "beauty", "output": "a.mp4"}
DEPTH = {"from": "depth", "output": "b.mov", "encode": ["-c:v", "prores_ks"]}
VIDEO = {"outputs": {"beauty": "b/{chunk}.mov", "depth": "d/{chunk}.mov"}}


def job(*films: dict[str, Any], **fields: Any) -> RenderJobSpec:
    document = {
        "frames": {"count": 6, "per_chunk": 3},
        "fps": "24",
        "command": ["render", "{output.beauty}", "{output.depth}"],
        "outputs": {"beauty": "b/{frame:04}.png", "depth": "d/{frame:04}.png"},
        "base_dir": "/farm",
        **({"film": list(films)} if films else {}),
        **fields,
    }
    return read_job(document)


def test_what_a_film_leaves_out_is_the_jobs() -> None:
    several = job(
        BEAUTY, {**DEPTH, "audio": [{"file": "m.wav"}], "verify": "full"}, encode=["-crf", "9"], audio="a.wav"
    )
    first, second = several.films

    assert (first.output, first.encode, first.audio, first.verify) == ("a.mp4", ("-crf", "9"), "a.wav", "seams")
    assert (second.output, second.encode, second.verify) == ("b.mov", ("-c:v", "prores_ks"), "full")
    assert [track.file for track in second.audio_tracks] == ["m.wav"]
    assert (first.film_source, second.film_source) == (0, 1)
    assert dict(several.audio_files) == {"audio": "a.wav", "film[1].audio[0].file": "m.wav"}
    assert dict(several.film_outputs) == {"film[0].output": "a.mp4", "film[1].output": "b.mov"}
    assert read_job(several.to_wire()) == several
    assert [film.output for film in job({"from": "depth", "output": "b.mov"}, {}, output="a.mp4").films] == [
        "b.mov", "a.mp4"
    ]  # fmt: skip


def test_a_film_of_several_is_the_film_of_a_job_that_makes_it_alone() -> None:
    several = job(BEAUTY, {**DEPTH, "verify": "full"})
    alone = job(output="b.mov", film={"from": "depth"}, encode=DEPTH["encode"])

    assert [film.digest() for film in several.films][1] == alone.digest() == alone.films[0].digest()
    assert alone.films == (alone,)
    assert several.digest() == job(BEAUTY, DEPTH).digest()
    assert len({several.digest(), alone.digest(), job(DEPTH, BEAUTY).digest(), job(BEAUTY).digest()}) == 4
    assert ChunkPlan(several).compute_digest(1) == ChunkPlan(alone).compute_digest(1)
    assert job().films == ()


def test_placeholders_and_names_of_files_are_filled_in_every_film() -> None:
    colour = {"input": "linear", "output": "sRGB", "config": "/show/c.ocio"}
    several = job({**BEAUTY, "output": "{job}.mp4", "colour": colour}, {**DEPTH, "audio": "/show/m.wav"})
    filled = several.fill_placeholders({"job": "shot", "date": "", "time": ""})
    renamed = filled.rename_film_files(lambda field, name: name.removeprefix("/show/"))

    assert dict(renamed.film_outputs) == {"film[0].output": "shot.mp4", "film[1].output": "b.mov"}
    assert dict(renamed.colour_files) == {"film[0].colour.config": "c.ocio"}
    assert dict(renamed.audio_files) == {"film[1].audio": "m.wav"}


@pytest.mark.parametrize(
    ("films", "fields", "sentence"),
    [
        ([DEPTH, {}], {}, "film[1].output: is missing; say where this film goes"),
        (
            [{"from": "depth"}, {}],
            {"output": "a.mp4"},
            "film[1].output: is missing, and film[0] has the output of the job",
        ),
        (
            [BEAUTY, {"output": "./a.mp4"}],
            {},
            "film[1].output: './a.mp4' is also film[0].output; give each output a path",
        ),
        (
            [BEAUTY, {"output": "b/0003.png.mp4"}, {"output": "x.txt"}],
            {},
            "film[2].output: 'x.txt' is no film; end it in",
        ),
        ([BEAUTY, {"output": "/"}], {}, "film[1].output: "),
        ([BEAUTY, {"output": "{frame}.mp4"}], {}, "film[1].output: the placeholder {frame} is not known here"),
        (
            [BEAUTY, {"output": "b.mp4", "from": "z"}],
            {},
            "film[1].from: 'z' is none of the outputs; write 'beauty' or 'depth'",
        ),
        ([BEAUTY, {"outptu": "b.mp4"}], {}, "film[1].outptu: is not a key of a job; did you mean output?"),
        (
            [BEAUTY, {"output": "b.mp4", "encode": ["-i", "x"]}],
            {},
            "film[1].encode: -i is not an option that jobs may give",
        ),
        ([BEAUTY, DEPTH], {"encode": ["-i", "x"]}, "encode: -i is not an option that jobs may give"),
        (
            [BEAUTY, DEPTH],
            {"output": "c.mp4"},
            "output: is of no use, because each item of film has its own; leave it out",
        ),
        (
            [BEAUTY, {"output": "b.webm", "audio": {"file": "a.wav", "codec": "pcm"}}],
            {},
            "film[1].audio.codec: .webm films hold",
        ),
        (
            [BEAUTY, {"output": "b.webm", "audio": [{"file": "a.wav", "codec": "x"}]}],
            {},
            "film[1].audio[0].codec: is 'x'; choose",
        ),
        ([BEAUTY, {"output": "b.mp4", "audio": "a.mp4"}], {}, "film[1].audio: 'a.mp4' is also film[0].output"),
        ([BEAUTY, {"output": "b.mp4", "drop": ["audio"]}], {}, "film[1].drop: is for films of video chunks"),
        ([BEAUTY, DEPTH], VIDEO, "film[1].encode: is for films of {frame} images"),
        (
            [BEAUTY, {"output": "/x/b.mp4"}],
            {"store": "s3://films/a"},
            "film[1].output: '/x/b.mp4' leads out of the store",
        ),
        (
            [BEAUTY],
            {"merge_command": ["join", "{output}"]},
            "film: is a list, and a merge_command makes the film alone",
        ),
        ([BEAUTY] * 21, {}, "film: has 21 entries; keep 20 of them"),
        ([], {"film": []}, "film: has 0 entries; write at least 1"),
        ([], {"film": ["beauty"]}, "film[0]: is 'beauty'; write an object of keys and values"),
        ([], {"film": {"output": "a.mp4"}}, "film.output: is not a key of a job"),
        ([BEAUTY], {"fps": None}, "fps: is missing"),
    ],
)
def test_films_that_cannot_be_are_refused_by_name(
    films: list[dict[str, Any]], fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadJobError) as refused:
        job(*films, **fields)

    assert str(refused.value).startswith(sentence)
