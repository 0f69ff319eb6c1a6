"""Inputs of jobs in a bucket: handed in once, found by every render, and never from where they must not come."""

import json
import os
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import command_line
from farm import Farm
from minio import Minio

from longtake import BadJobError, ChunkSpec, FrameRange, JobState, RenderJobSpec, Retry, load_job
from longtake.errors import JobExistsError
from longtake.handing_in import HandingIn, handed_in
from longtake.input_files import measure_inputs
from longtake.inputs import InputBundle, InputFile, InputManifest, content_path, manifest_path
from longtake.stores.store import Store

pytestmark = pytest.mark.integration

# Writes what it finds below the folder it runs in, and leaves a file there.
LIST = (
    "import os, sys; "
    "found = [os.path.join(d, n)[2:] for d, _, ns in os.walk('.') for n in ns]; "
    "open('left-by-a-render', 'w').write('x'); "
    "open(sys.argv[1], 'w').write('\\n'.join(f'{p} {open(p).read()} {os.access(p, os.X_OK)}' for p in sorted(found)))"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a scene, a link and a program in it."""
    base = tmp_path / "project"
    for path, content in {"scene/a.txt": "a", "scene/deep/b.txt": "b", "scene/twin.txt": "a", "other.txt": "o"}.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(content)
    (base / "scene" / "link.txt").symlink_to("../other.txt")
    (base / "render.sh").write_text("#!/bin/sh\ncat scene/a.txt > $1\n")
    (base / "render.sh").chmod(0o755)
    return base


@pytest.fixture
def job(bucket: str, base: Path) -> Callable[..., RenderJobSpec]:
    def make(**fields: Any) -> RenderJobSpec:
        return RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=2, per_chunk=1),
                "command": (sys.executable, "-c", LIST.replace("{", "{{").replace("}", "}}"), "{output}"),
                "chunk_output": "out/{chunk}.txt",
                "store": bucket,
                "base_dir": str(base),
                "inputs": ("scene", "render.sh"),
                "retry": Retry(attempts=1),
                **fields,
            }
        )

    return make


def score(path: Path) -> None:
    """Write two seconds of sound."""
    path.parent.mkdir()
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(range(250)) * 128)


def contents(films: Store) -> list[str]:
    return [name for name in films.names(films.locate(".longtake/inputs")) if not name.endswith(".json")]


async def test_renders_find_their_inputs_and_nothing_of_each_other(
    cloud: Farm, job: Callable[..., RenderJobSpec], films: Store
) -> None:
    status = await cloud.run(job())

    assert status.state is JobState.COMPLETED, status.error
    found = films.read(films.locate("out/0.txt")).decode()
    assert found == films.read(films.locate("out/1.txt")).decode()
    assert [line.split()[0] for line in found.splitlines() if "txt" in line.split()[0]] == [
        "scene/a.txt", "scene/deep/b.txt", "scene/link.txt", "scene/twin.txt"
    ]  # fmt: skip
    assert "scene/link.txt o False" in found
    assert found.splitlines()[-1] != "x"
    assert "render.sh #!/bin/sh" in found
    assert len(contents(films)) == 4


async def test_a_program_among_the_inputs_runs(cloud: Farm, job: Callable[..., RenderJobSpec], films: Store) -> None:
    status = await cloud.run(job(command=("./render.sh", "{output}")))

    assert status.state is JobState.COMPLETED, status.error
    assert films.read(films.locate("out/1.txt")) == b"a"


async def test_the_same_files_are_sent_once_and_make_the_same_job(
    cloud: Farm, job: Callable[..., RenderJobSpec], base: Path
) -> None:
    told: list[HandingIn] = []
    first = await cloud.render.submit(job(), id="same", tell=told.append)
    assert (told[-1].files, told[-1].sent_files) == (5, 4)
    again = await cloud.render.submit(job(), id="same", tell=told.append)

    assert first.id == again.id
    assert (told[-1].sent_files, told[-1].done_bytes) == (0, told[-1].size_bytes)
    (base / "scene" / "a.txt").write_text("changed")
    with pytest.raises(JobExistsError):
        await cloud.render.submit(job(), id="same", tell=told.append)
    await first.cancel(wait=True)


async def test_a_job_on_the_wire_may_carry_a_bundle(cloud: Farm, job: Callable[..., RenderJobSpec]) -> None:
    sent = handed_in(job())
    assert isinstance(sent.inputs, InputBundle)
    assert sent.base_dir is None
    received = RenderJobSpec.model_validate_json(json.dumps(sent.to_wire()))

    assert received.digest() == sent.digest()
    assert (await cloud.run(received)).state is JobState.COMPLETED


async def test_sound_travels_with_the_inputs(cloud: Farm, job: Callable[..., RenderJobSpec], base: Path) -> None:
    score(base / "sound" / "score.wav")
    source = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25")
    command = (*source, "-frames:v", "{count}", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "{output}")
    fields = {"command": command, "fps": 25, "chunk_output": "{chunk}.mp4", "output": "film.mp4"}
    frames = FrameRange(count=50, per_chunk=25)
    wanted = job(inputs=(), audio=str(base / "sound" / "score.wav"), frames=frames, **fields)

    assert handed_in(wanted).audio == "sound/score.wav"
    status = await cloud.run(wanted)
    assert status.state is JobState.COMPLETED, status.error


async def test_a_long_chunk_list_travels_as_a_file(
    cloud: Farm, job: Callable[..., RenderJobSpec], base: Path, films: Store
) -> None:
    listed = [{"start": n, "count": 1, "output": f"out/{'long' * 20}-{n}.txt"} for n in range(3000)]
    document = job(frames=None, chunks=(ChunkSpec(start=0, count=1),)).to_wire() | {"chunks": listed, "name": "listed"}
    del document["contract"], document["base_dir"], document["chunk_output"]
    document["command"] = ["cp", "scene/a.txt", "{output}"]
    path = base / "job.json"
    path.write_text(json.dumps(document))
    job_of_file = load_job(path)
    assert job_of_file.chunk_list is not None

    handle = await cloud.render.submit(job_of_file, id="listed")
    while (await handle.status()).completed_chunks < 4:
        pass
    await handle.cancel(wait=True)

    assert films.stat(films.locate(content_path(job_of_file.chunk_list.sha256))) is not None
    assert films.stat(films.locate(".longtake/listed/list.json")) is not None


async def test_the_command_line_hands_in_and_says_so(
    cloud: Farm, job: Callable[..., RenderJobSpec], base: Path
) -> None:
    document = job().to_wire()
    del document["contract"], document["base_dir"]
    (base / "job.json").write_text(json.dumps(document))
    async with command_line(cloud) as cli:
        first = await cli("submit", str(base / "job.json"), "--id", "told", "--watch")
        again = await cli("submit", str(base / "job.json"), "--id", "told")
        (base / "render.sh").unlink()
        bad = await cli("submit", str(base / "job.json"), "--id", "other")

    assert (first.code, first.out) == (0, "told\n"), first.err
    assert "5 input files (35 B) are in the store; 4 of them (34 B) were sent" in first.err
    assert (again.code, again.out) == (0, "told\n")
    assert "5 input files (35 B) were in the store already" in again.err
    assert (bad.code, bad.out) == (2, "")
    assert bad.err == f"longtake: inputs[1]: there is no {base}/render.sh; put it there, or leave it out\n"


async def test_credentials_that_are_missing_or_wrong_are_one_sentence(
    cloud: Farm, job: Callable[..., RenderJobSpec], base: Path, monkeypatch: pytest.MonkeyPatch, minio: Minio
) -> None:
    document = job().to_wire()
    del document["contract"], document["base_dir"]
    (base / "job.json").write_text(json.dumps(document))
    ended = []
    async with command_line(cloud) as cli:
        with monkeypatch.context() as patch:
            patch.delenv("AWS_ACCESS_KEY_ID")
            patch.delenv("AWS_SECRET_ACCESS_KEY")
            ended.append(await cli("submit", str(base / "job.json")))
        with monkeypatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
            ended.append(await cli("submit", str(base / "job.json")))
        ended.append(await cli("submit", str(base / "job.json"), "--set", "store=s3://no-such-bucket-at-all/x"))

    assert [(ran.code, ran.out, ran.err.count("\n")) for ran in ended] == [(2, "", 1)] * 3, ended
    assert "no AWS credentials" in ended[0].err
    assert "secret key does not belong" in ended[1].err
    assert "there is no such bucket" in ended[2].err
    assert not any(minio.secret_key in ran.err or "not-the-secret" in ran.err for ran in ended)


def test_inputs_are_measured_without_being_sent(job: Callable[..., RenderJobSpec], films: Store) -> None:
    assert measure_inputs(job()) == (5, 35)
    assert contents(films) == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (("scene", "missing.blend"), "inputs[1]: there is no"),
        (("../outside.txt",), "inputs[0]: ../outside.txt lies outside base_dir"),
        (("/etc/passwd",), "inputs[0]: /etc/passwd lies outside base_dir"),
        (("bad/out",), "inputs[0]: bad/out leads out of base_dir, to /etc/passwd"),
        (("bad",), "inputs[0]: bad/out leads out of base_dir, to /etc/passwd"),
        (("through/passwd",), "inputs[0]: through/passwd leads out of base_dir"),
        (("loop",), "is a link to a folder that it lies in"),
        (("dangling",), "dangling/link is a link to nothing"),
        (("pipe",), "inputs[0]: pipe is neither a file nor a folder"),
        (("newline",), "holds a control character"),
        (("latin",), "is not UTF-8"),
    ],
)
def test_what_cannot_be_handed_in_is_one_sentence(
    job: Callable[..., RenderJobSpec], base: Path, films: Store, inputs: tuple[str, ...], sentence: str
) -> None:
    (base.parent / "outside.txt").write_text("private")
    for folder in ("bad", "loop/in", "dangling", "newline", "latin"):
        (base / folder).mkdir(parents=True)
    (base / "bad" / "out").symlink_to("/etc/passwd")
    (base / "through").symlink_to("/etc")
    (base / "loop" / "in" / "back").symlink_to("..")
    (base / "dangling" / "link").symlink_to("nowhere")
    os.mkfifo(base / "pipe")
    (base / "newline" / "a\nb").touch()
    (base / "latin" / os.fsdecode(b"\xe4.txt")).touch()

    with pytest.raises(BadJobError) as refused:
        handed_in(job(inputs=inputs))

    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(films) == []


def test_a_file_that_changes_while_it_is_handed_in_is_refused(
    job: Callable[..., RenderJobSpec], base: Path, films: Store
) -> None:
    large = base / "scene" / "large.bin"
    large.write_bytes(os.urandom(20 << 20))
    meddled: list[HandingIn] = []

    def meddle(now: HandingIn) -> None:
        # All are read, and nothing is sent yet.
        if now.read_bytes == now.size_bytes and not meddled:
            meddled.append(now)
            with large.open("r+b") as file:
                file.seek(19 << 20)
                file.write(b"other content")

    with pytest.raises(BadJobError, match=r"scene/large\.bin was written to while it was handed in"):
        handed_in(job(), tell=meddle)

    assert meddled
    assert not [name for name in contents(films) if films.digest(films.locate(content_path(name))) != name]


def test_a_wrong_content_in_the_store_is_mended_by_the_next_hand_in(
    job: Callable[..., RenderJobSpec], base: Path, films: Store
) -> None:
    handed_in(job())
    (one, *_) = contents(films)
    films.replace(films.locate(content_path(one)), b"x")

    handed_in(job())

    assert films.digest(films.locate(content_path(one))) == one


@pytest.mark.parametrize("path", ["../escape.txt", "/tmp/escape.txt", "a/../../escape.txt", "a\nb", "a//b", ""])
async def test_a_manifest_that_leads_out_is_refused_on_the_host(
    cloud: Farm, job: Callable[..., RenderJobSpec], films: Store, scratch: Path, path: str
) -> None:
    content = b"evil"
    file = InputFile.model_construct(path=path, sha256="0" * 64, size_bytes=len(content), executable=False)
    manifest = InputManifest.model_construct(files=(file,))
    bundle = manifest.bundle()
    films.create(films.locate(manifest_path(bundle.sha256)), manifest.to_bytes())
    films.create(films.locate(content_path("0" * 64)), content)

    status = await cloud.run(job(inputs=bundle))

    assert status.state is JobState.FAILED
    assert "inputs: " in (status.error or "")
    assert "escape.txt" not in [name for _, _, names in os.walk(scratch.parent) for name in names]
    assert list(films.folders(films.locate(".longtake"))) == ["inputs"]


async def test_a_bundle_that_was_never_handed_in_is_one_sentence(
    cloud: Farm, job: Callable[..., RenderJobSpec]
) -> None:
    status = await cloud.run(job(inputs=InputBundle(sha256="1" * 64, files=1, size_bytes=1)))

    assert status.state is JobState.FAILED
    assert "longtake submit" in (status.error or "")


async def test_a_content_that_was_exchanged_is_refused(
    cloud: Farm, job: Callable[..., RenderJobSpec], films: Store
) -> None:
    sent = handed_in(job())
    for name in contents(films):
        films.replace(films.locate(content_path(name)), b"x" * films.stat(films.locate(content_path(name))).size_bytes)  # type: ignore[union-attr]

    status = await cloud.run(sent)

    assert status.state is JobState.FAILED
    assert "another content" in (status.error or "")


def test_a_bundle_needs_a_bucket(job: Callable[..., RenderJobSpec]) -> None:
    with pytest.raises(ValueError, match="name the bucket in store"):
        job(store=None, inputs=InputBundle(sha256="1" * 64, files=1, size_bytes=1))
