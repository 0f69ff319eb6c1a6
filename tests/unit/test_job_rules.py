"""Rules for jobs: what cannot work is one sentence with the field and the fix."""

# ruff: noqa: E501  # a table is read by rows

from typing import Any

import pytest
from support.jobs.invalid_files import GOOD, HELIOS

from longtake.errors import BadJobError
from longtake.jobfile.loader import read_job

S3 = "s3://films/2025"
LIST: dict[str, Any] = {"frames": None, "chunks": [{"start": 0, "count": 10}]}
HELIOS_BACKEND = {"type": "lambda", "protocol": "helios", "job_url": "https://files.example.com/job.json"}


def job(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


def backend(type: str = "lambda", **fields: Any) -> dict[str, Any]:
    return job(backend={"type": type, **fields})


def timeouts(seconds: float, **changes: Any) -> dict[str, Any]:
    return job(timeouts={"chunk_seconds": seconds}, **changes)


BAD = [
    # sessions
    ("an empty session", job(session=[]), "session: is empty; write the program and its arguments"),
    ("a session with a chunk", job(session=["blender", "{start}"]), "session: the placeholder {start} is not known here; it can hold {job}, {date}, {time}"),
    ("a session of a service", job(backend="lambda", session=["blender"]), "session: is for workers that render themselves; leave it out, or set backend to local"),
    ("a line with a line break", job(session=["blender"], command=["start", "a\nb", "{output}"]), "command: holds a line break, and a session reads one line a chunk; take it out"),
    # how long a try may take
    ("a try longer than a Lambda", timeouts(1200, backend="lambda"), "timeouts.chunk_seconds: 1200 s is longer than a Lambda lives (900 s, 30 of them kept for publishing); set at most 870, and render fewer frames a chunk (frames.per_chunk)"),
    ("a try of a list longer than a Lambda", timeouts(871, backend={"type": "lambda"}, **LIST), "timeouts.chunk_seconds: 871 s is longer than a Lambda lives (900 s, 30 of them kept for publishing); set at most 870, and render fewer frames a chunk (chunks[...].count)"),
    ("a try longer than a request", timeouts(7200, backend="cloud_run"), "timeouts.chunk_seconds: 7200 s is longer than a Cloud Run request lives (3600 s, 30 of them kept for publishing); set at most 3570"),
    # keys of a backend
    ("a misspelt key of Lambda", backend(functoin="x"), "backend.functoin: is not a key of a job; did you mean function?"),
    ("a key of Cloud Run for Lambda", backend(url="https://x"), "backend.url: is not a key of a job; "),
    ("a key of Lambda for Cloud Run", backend("cloud_run", function="x"), "backend.function: is not a key of a job; known here: protocol, job_url"),
    ("a misspelt key of Cloud Run", backend("cloud_run", vcpu=2), "backend.vcpu: is not a key of a job; did you mean vcpus?"),
    ("a misspelt type", backend("lamda"), "backend.type: is 'lamda'; choose lambda or cloud_run"),
    ("a backend of no type", job(backend={"function": "x"}), "backend.type: is missing; choose lambda or cloud_run"),
    ("a type that is a list", job(backend={"type": ["lambda"]}), "backend.type: is ['lambda']; choose lambda or cloud_run"),
    ("a local backend with keys", backend("local"), "backend.type: is 'local'; choose lambda or cloud_run"),
    ("an unknown backend", job(backend="ec2"), "backend: is 'ec2'; choose 'local', 'lambda' or 'cloud_run'"),
    ("a number for a backend", job(backend=3), "backend: is 3; choose 'local', 'lambda' or 'cloud_run'"),
    ("a client's backend of another type", {**backend("batch"), "contract": 1}, "backend: is {'type': 'batch'}; choose 'local', 'lambda' or 'cloud_run'"),
    ("an unknown protocol", backend(protocol="http"), "backend.protocol: is 'http'; choose 'longtake' or 'helios'"),
    ("too little memory", backend(memory_mb=64), "backend.memory_mb: is 64; make it at least 128"),
    ("no vCPU", backend("cloud_run", vcpus=0), "backend.vcpus: is 0; make it more than 0"),
    # where it is
    ("a function with a slash", backend(function="../x"), "backend.function: '../x' is no function; write its name or its ARN"),
    ("a function of nothing", backend(function=""), "backend.function: '' is no function"),
    ("a region with a dot", backend(region="evil.example.com"), "backend.region: 'evil.example.com' is no region; write one as in eu-central-1"),
    ("a service without a scheme", backend("cloud_run", url="render.example.com"), "backend.url: 'render.example.com' is no absolute URL; write one that starts with https:// or http://"),
    ("a service of a file", backend("cloud_run", url="file:///etc/passwd"), "backend.url: 'file:///etc/passwd' is no absolute URL"),
    ("a service without a host", backend("cloud_run", url="https://"), "backend.url: 'https://' is no absolute URL"),
    ("a service with a broken port", backend("cloud_run", url="https://x:port/"), "backend.url: 'https://x:port/' is no absolute URL"),
    ("a service with broken brackets", backend("cloud_run", url="https://[::1/"), "backend.url: 'https://[::1/' is no absolute URL"),
    ("a service with a newline", backend("cloud_run", url="https://x/\n"), "backend.url: 'https://x/\\n' is no absolute URL"),
    ("a service with a password", backend("cloud_run", url="https://me:pa55word@x/"), "backend.url: holds a user name before the host"),
    # helios
    ("helios without a job", backend(protocol="helios"), "backend.job_url: is missing; Helios' workers read their job.json from a URL, so give it here"),
    ("helios with a path", job(backend={**HELIOS_BACKEND, "job_url": "/films/job.json"}), "backend.job_url: '/films/job.json' is no absolute URL"),
    ("helios with a bucket", job(backend=HELIOS_BACKEND, store=S3), "store: Helios' workers write to a folder that they share, and never to a bucket; leave store out, or set backend.protocol to longtake"),
    ("helios with an environment", job(backend=HELIOS_BACKEND, env={"A": "1"}), "env: does not reach Helios' workers"),
    ("a job URL for our own agent", backend(job_url="https://x/job.json"), "backend.job_url: is for Helios' workers; set backend.protocol to helios, or leave it out"),
    ("lenience for our own agent", backend("cloud_run", lenient=True), "backend.lenient: is for Helios' workers"),
    # the store
    ("a folder for a store", job(store="/films"), "store: '/films' is no bucket; write s3://bucket/prefix, or name a folder in base_dir instead"),
    ("another scheme", job(store="gs://films"), "store: 'gs://films' is no bucket"),
    ("a store of nothing", job(store=""), "store: '' is no bucket"),
    ("a bucket of nothing", job(store="s3:///2025"), "store: '' is no name of a bucket; write s3://bucket/prefix with 3 to 63 small letters"),
    ("a bucket with capitals", job(store="s3://Films"), "store: 'Films' is no name of a bucket"),
    ("a bucket of two letters", job(store="s3://ab"), "store: 'ab' is no name of a bucket"),
    ("a bucket with two dots", job(store="s3://a..b"), "store: 'a..b' is no name of a bucket"),
    ("a bucket with an underline", job(store="s3://my_films"), "store: 'my_films' is no name of a bucket"),
    ("a bucket with a newline", job(store="s3://films\n"), "store: 'films\\n' is no name of a bucket"),
    ("a prefix that leads out", job(store="s3://films/../other"), "store: 's3://films/../other' holds an empty name, . or ..; write the prefix without them"),
    ("a prefix of dots", job(store="s3://films/./a"), "holds an empty name, . or .."),
    ("a prefix with an empty name", job(store="s3://films/a//b"), "holds an empty name, . or .."),
    ("a store with a query", job(store="s3://films/a?versionId=1"), "store: 's3://films/a?versionId=1' has a query; write s3://bucket/prefix and nothing behind it"),
    ("a store with a fragment", job(store="s3://films/a#b"), "has a query"),
    ("a prefix with a NUL", job(store="s3://films/a\0"), "store: holds a control character"),
    ("a prefix of ours", job(store="s3://films/.longtake/x"), "lies in .longtake, which is Longtake's own; choose another"),
    ("a prefix of 600 bytes", job(store=f"s3://films/{'x/' * 300}"), "store: has a prefix of more than 500 bytes, and keys have 1024 in all; shorten it"),
    ("a store with a key", job(store="s3://AKIA123:pa55word@films/x"), "store: holds something before an @, and job files are no place for keys; leave it out"),
    # what cannot reach a bucket
    ("an absolute film", job(store=S3, output="/films/film.mp4"), "output: '/films/film.mp4' leads out of the store; write a path below it, without / or .."),
    ("a film above", job(store=S3, output="a/../../film.mp4"), "output: 'a/../../film.mp4' leads out of the store"),
    ("chunks above", job(store=S3, chunk_output="../{chunk}.mp4"), "chunk_output: '../{chunk}.mp4' leads out of the store"),
    ("a chunk above", job(store=S3, frames=None, chunks=[{"start": 0, "count": 1, "output": "/x.mp4"}]), "chunks[0].output: '/x.mp4' leads out of the store"),
    ("a command in place", job(store=S3, command="render {chunk}", **LIST), "command: writes its output in place, and nobody takes it from there to a bucket; put {output} where the renderer is told what to write, or leave store out"),
    ("one command in place", job(store=S3, frames=None, chunks=[{"start": 0, "count": 1}, {"start": 1, "count": 1, "command": "render {{output}}", "output": "b.mp4"}]), "chunks[1].command: writes its output in place"),
    ("a merge of no film", job(store=S3, merge_command="join chunks"), "merge_command: makes a film that no output names, and nobody takes it to the bucket; add output, and put {output}"),
    # inputs
    ("an input of nothing", job(inputs=[""]), "inputs[0]: is empty; name a file or a folder below base_dir"),
    ("an input with a newline", job(inputs=["a", "b\nc"]), "inputs[1]: holds a control character such as NUL or a newline; rename the file"),
    ("an input at home", job(inputs=["~/scene.blend"]), "inputs[0]: '~/scene.blend' starts with ~, which only a shell expands; write the path in full"),
    ("an input of ours", job(inputs=["x/.longtake/job"]), "inputs[0]: 'x/.longtake/job' lies in .longtake, which is Longtake's own; leave it out"),
    ("an input twice", job(inputs=["scene", "textures", "a/../scene/"]), "inputs[2]: 'a/../scene/' stands in inputs[0] already; leave it out"),
    ("inputs as text", job(inputs="scene.blend"), "inputs: is 'scene.blend'; write a list"),
]  # fmt: skip

GOOD_JOBS = [
    job(backend="lambda", store=S3),
    job(backend="cloud_run"),
    job(backend={"type": "lambda", "function": "arn:aws:lambda:eu-central-1:123456789012:function:render:$LATEST"}),
    job(backend={"type": "cloud_run", "url": "http://127.0.0.1:8080/render", "vcpus": 0.5}),
    job(backend=HELIOS_BACKEND, **LIST),
    timeouts(870, backend="lambda"),
    timeouts(3600, backend="lambda"),
    timeouts(3570, backend="cloud_run"),
    timeouts(7200),
    job(store="s3://my.films-2025/"),
    job(store=S3, output="a/../film.mp4", audio="/films/score.wav"),
    job(store=S3, command="render {output_dir}", **LIST),
    job(store=S3, inputs=["scene.blend", "textures/", "."]),
    {**HELIOS, "store": S3},
    {**HELIOS, "backend": {**HELIOS_BACKEND, "lenient": True}},
]


@pytest.mark.parametrize(("document", "fragment"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_cannot_work_is_refused_in_one_sentence(document: dict[str, Any], fragment: str) -> None:
    with pytest.raises(BadJobError) as refused:
        read_job(document)

    text = str(refused.value)
    assert fragment in text
    assert text.isprintable()
    assert "; " in text
    assert len(text) < 300
    assert "pa55word" not in text


@pytest.mark.parametrize("document", GOOD_JOBS, ids=range(len(GOOD_JOBS)))
def test_what_can_work_is_taken(document: dict[str, Any]) -> None:
    read = read_job(document)

    assert read_job(read.to_wire()) == read


@pytest.mark.parametrize("film", ["chunks/0.mp4", "chunks/000004.mp4", "chunks/000003.mov", "000003.mp4"])
def test_a_film_may_look_like_a_chunk_that_there_is_not(film: str) -> None:
    assert read_job({**GOOD, "output": film}).output == film


@pytest.mark.parametrize(
    ("template", "film", "clash"),
    [
        ("c/{start}.mp4", "c/25.mp4", True), ("c/{start}.mp4", "c/24.mp4", False),
        ("c/{stop}.mp4", "c/100.mp4", True), ("c/{stop}.mp4", "c/0.mp4", False),
        ("c/{last}.mp4", "c/99.mp4", True), ("c/{last}.mp4", "c/100.mp4", False),
        ("{start}-{last}.mp4", "25-49.mp4", True), ("{start}-{last}.mp4", "25-50.mp4", False),
        ("{count}_{chunk}.mp4", "25_1.mp4", True), ("{count}_{chunk}.mp4", "1_1.mp4", False),
        ("{chunk:3}.mp4", "  2.mp4", True), ("{chunk:3}.mp4", "2.mp4", False),
        ("/farm/{chunk}.mp4", "0.mp4", True), ("/other/{chunk}.mp4", "0.mp4", False),
        ("//farm/{chunk}.mp4", "0.mp4", True), ("/../farm/{chunk}.mp4", "0.mp4", True),
    ],
)  # fmt: skip
def test_a_film_never_is_one_of_its_chunks(template: str, film: str, clash: bool) -> None:
    document = {**GOOD, "chunk_output": template, "output": film, "base_dir": "/farm"}
    if clash:
        with pytest.raises(BadJobError, match=r"^output: chunk [0-3] writes this file too"):
            read_job(document)
    else:
        assert read_job(document).output == film


JOB: dict[str, object] = {
    "frames": {"first": 1, "count": 4, "per_chunk": 2},
    "fps": 24,
    "command": ["ffmpeg", "{output}"],
    "chunk_output": "f/f_{frame:04}.png",
}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"frames": 10}, "frames: is 10; write {count: 10}, or {first: 10, count: 1} for that frame alone"),
        ({"fps": "59.94"}, "fps: is '59.94'; write \"60000/1001\": a rounded rate drifts over a long film"),
        ({"fps": "24.0"}, "fps: is '24.0'; write 24"),
        ({"fps": "12.5"}, "fps: is '12.5'; write \"25/2\": a rounded rate drifts over a long film"),
        ({"fps": 12.5}, 'fps: write "25/2" instead of 12.5; a rounded rate drifts over a long film'),
        (
            {"chunk_output": "Z:\\shots\\f_{frame:04}.png"},
            "chunk_output: 'Z:\\\\shots\\\\f_{frame:04}.png' is a path of Windows; write the one that workers see, or one "
            "from the job file's folder",
        ),
        (
            {"inputs": ["//nas/a.blend", r"\\nas\b.blend"]},
            r"inputs[1]: '\\\\nas\\b.blend' is a path of Windows; write the one that workers see, or one from the job "
            "file's folder",
        ),
        (
            {"name": False},
            'name: is false; write text in quotes, as in "no": without them YAML reads no, off and false so',
        ),
        (
            {"name": True},
            'name: is true; write text in quotes, as in "yes": without them YAML reads yes, on and true so',
        ),
        (
            {"chunk_output": "renders\\f_{frame:04}.png"},
            "chunk_output: 'renders\\\\f_{frame:04}.png' has a backslash, which is part of a name here; write "
            "'renders/f_{frame:04}.png'",
        ),
        (
            {"chunk_output": "$SHOT/f_{frame:04}.png"},
            "chunk_output: '$SHOT/f_{frame:04}.png' holds $SHOT, which only a shell expands; write the path in full",
        ),
        (
            {"output": "${SHOT}/f.mp4"},
            "output: '${SHOT}/f.mp4' holds ${SHOT}, which only a shell expands; write the path in full",
        ),
        (
            {"chunk_output": "%SHOT%/f_{frame:04}.png"},
            "chunk_output: '%SHOT%/f_{frame:04}.png' holds %SHOT%, which only a shell expands; write the path in full",
        ),
        (
            {"chunk_output": "renders/f_%04d.png"},
            "chunk_output: 'renders/f_%04d.png' numbers frames by %04d; write {frame:04} instead",
        ),
        ({"chunk_output": "r/f_%d.png"}, "chunk_output: 'r/f_%d.png' numbers frames by %d; write {frame} instead"),
        (
            {"chunk_output": "r/f_####.png"},
            "chunk_output: 'r/f_####.png' numbers frames by ####; write {frame:04} instead",
        ),
        (
            {"chunk_output": "r/f_$F4.png"},
            "chunk_output: 'r/f_$F4.png' numbers frames by $F4; write {frame:04} instead",
        ),
        (
            {"chunk_output": "r/f_@@@@.png"},
            "chunk_output: 'r/f_@@@@.png' numbers frames by @@@@; write {frame:04} instead",
        ),
        (
            {"chunk_output": "r/f_<Frame>.png"},
            "chunk_output: 'r/f_<Frame>.png' numbers frames by <Frame>; write {frame} instead",
        ),
        (
            {"chunk_output": "r/f_<F4>.png"},
            "chunk_output: 'r/f_<F4>.png' numbers frames by <F4>; write {frame:04} instead",
        ),
        ({"chunk_output": "r/f_%i.png"}, "chunk_output: 'r/f_%i.png' numbers frames by %i; write {frame} instead"),
        ({"chunk_output": "r/f_#.png"}, "chunk_output: 'r/f_#.png' numbers frames by #; write {frame} instead"),
        (
            {"chunk_output": "r/%04d/beauty.exr"},
            "chunk_output: 'r/%04d/beauty.exr' numbers frames by %04d; write {frame:04} instead",
        ),
        (
            {"chunk_output": "r/f.${F4}.exr"},
            "chunk_output: 'r/f.${F4}.exr' numbers frames by ${F4}; write {frame:04} instead",
        ),
        (
            {"chunk_output": "r/f_[#####].png"},
            "chunk_output: 'r/f_[#####].png' numbers frames by [#####]; write {frame:05} instead",
        ),
        (
            {"chunk_output": "c/{chunk}_####.mp4"},
            "chunk_output: 'c/{chunk}_####.mp4' numbers frames by ####; write {chunk:04} instead",
        ),
        ({"output": "f_####.mp4"}, "output: 'f_####.mp4' numbers frames by ####, and a film is one file; take it out"),
        (
            {"chunk_output": "c/f_{frame:04}.mp4"},
            "chunk_output: has {frame}, one file of each frame, and a .mp4 holds all frames of a chunk; write {chunk:06} "
            "or {start:06} in its place, or end it as image files do, as in .png",
        ),
        (
            {"chunk_output": "r/<RenderPass>/{frame:04}.exr"},
            "chunk_output: 'r/<RenderPass>/{frame:04}.exr' holds <RenderPass>, which only another program expands; write "
            "the name in full, and each such file as one of outputs",
        ),
        (
            {"chunk_output": "$(pwd)/f_{frame:04}.png"},
            "chunk_output: '$(pwd)/f_{frame:04}.png' holds $(pwd), which only a shell expands; write the path in full",
        ),
        (
            {"chunk_output": "'f_{frame:04}.png'"},
            "chunk_output: \"'f_{frame:04}.png'\" has quotes around it, which would be part of names; take them out",
        ),
        (
            {"chunk_output": "f_{frame:04}.png "},
            "chunk_output: 'f_{frame:04}.png ' ends with a blank, which would be part of the name; take it out",
        ),
        (
            {"chunk_output": "Z:f_{frame:04}.png"},
            "chunk_output: 'Z:f_{frame:04}.png' is a path of Windows; write the one that workers see, or one from the job "
            "file's folder",
        ),
        (
            {"chunk_output": "r/%V/f_{frame:04}.png"},
            "chunk_output: 'r/%V/f_{frame:04}.png' names views by %V; write {view} instead, and list them in views",
        ),
        (
            {"chunk_output": "s3://bucket/f_{frame:04}.png"},
            "chunk_output: 's3://bucket/f_{frame:04}.png' is a URL, and s3:// would be a folder here; name its bucket "
            "in store, and write the path below that",
        ),
        (
            {"inputs": ["https://host/scene.blend"]},
            "inputs[0]: 'https://host/scene.blend' is a URL, and https:// would be a folder here; write a path",
        ),
        (
            {"output": "file:///shots/f.mp4"},
            "output: 'file:///shots/f.mp4' is a URL, and file:/// would be a folder here; write a path",
        ),
    ],
)
def test_what_other_programs_write_is_told_as_it_is_written_here(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadJobError) as refused:
        read_job(JOB | keys)

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "path",
    [
        "50%done/f_{frame}.png",
        "100% final/f_{frame}.png",
        "50%v2/f_{frame}.png",
        "take#1/f_{frame}.png",
        "f#{frame}.png",
        "team@studio/f_{frame}.png",
        "take:1/f_{frame}.png",
    ],
)
def test_signs_that_mean_nothing_else_are_parts_of_names(path: str) -> None:
    assert read_job(JOB | {"chunk_output": path}).chunk_output == path
