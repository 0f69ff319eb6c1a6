"""Inputs that cannot be handed in, or must not be laid out: one sentence, and nothing half-made."""

import os
import signal
from pathlib import Path

import pytest
from support.command_line import command_line, until_exit
from support.farm import Farm, eventually
from support.jobs.inputs import Project, contents
from support.s3.server import S3Server

from longtake import BadJobError, JobState
from longtake.models.inputs import InputBundle, InputFile, InputManifest, content_path, manifest_path
from longtake.stores.store import Store
from longtake.transfer.progress import TransferProgress
from longtake.transfer.upload_inputs import upload_inputs

pytestmark = pytest.mark.integration


@pytest.fixture
def project(bucket: str, tmp_path: Path) -> Project:
    return Project(tmp_path / "project", bucket)


async def test_credentials_that_are_missing_or_wrong_are_one_sentence(
    cloud: Farm, project: Project, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    file = project.job_file()
    ended = []
    async with command_line(cloud) as cli:
        with monkeypatch.context() as patch:
            patch.delenv("AWS_ACCESS_KEY_ID")
            patch.delenv("AWS_SECRET_ACCESS_KEY")
            ended.append(await cli("submit", file))
        with monkeypatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
            ended.append(await cli("submit", file))
        ended.append(await cli("submit", file, "--set", "store=s3://no-such-bucket-at-all/x"))

    assert [(ran.code, ran.out, ran.err.count("\n")) for ran in ended] == [(2, "", 1)] * 3, ended
    assert "no AWS credentials" in ended[0].err
    assert "secret key does not belong" in ended[1].err
    assert "there is no such bucket" in ended[2].err
    assert not any(s3_server.secret_key in ran.err or "not-the-secret" in ran.err for ran in ended)


def test_what_cannot_be_handed_in_is_one_sentence(project: Project, films: Store) -> None:
    (project.base.parent / "outside.txt").write_text("private")
    for folder in ("bad", "loop/in", "dangling", "newline", "latin"):
        (project.base / folder).mkdir(parents=True)
    (project.base / "bad" / "out").symlink_to("/etc/passwd")
    (project.base / "through").symlink_to("/etc")
    (project.base / "loop" / "in" / "back").symlink_to("..")
    (project.base / "dangling" / "link").symlink_to("nowhere")
    os.mkfifo(project.base / "pipe")
    (project.base / "newline" / "a\nb").touch()
    (project.base / "latin" / os.fsdecode(b"\xe4.txt")).touch()

    for inputs, sentence in (
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
    ):
        with pytest.raises(BadJobError) as refused:
            upload_inputs(project.job(inputs=inputs))

        assert sentence in str(refused.value), inputs
        assert "\n" not in str(refused.value), inputs
        assert contents(films) == [], inputs


def test_a_file_that_changes_while_it_is_handed_in_is_refused(project: Project, films: Store) -> None:
    large = project.base / "scene" / "large.bin"
    large.write_bytes(os.urandom(20 << 20))
    meddled: list[TransferProgress] = []

    def meddle(now: TransferProgress) -> None:
        # All are read, and nothing is sent yet.
        if now.read_bytes == now.size_bytes and not meddled:
            meddled.append(now)
            with large.open("r+b") as file:
                file.seek(19 << 20)
                file.write(b"other content")

    with pytest.raises(BadJobError, match=r"scene/large\.bin was written to while it was handed in"):
        upload_inputs(project.job(), on_progress=meddle)

    assert meddled
    assert not [name for name in contents(films) if films.digest(films.locate(content_path(name))) != name]


def test_a_wrong_content_in_the_store_is_mended_by_the_next_hand_in(project: Project, films: Store) -> None:
    upload_inputs(project.job())
    (one, *_) = contents(films)
    films.replace(films.locate(content_path(one)), b"x")

    upload_inputs(project.job())

    assert films.digest(films.locate(content_path(one))) == one


async def test_a_manifest_that_leads_out_is_refused_on_the_host(
    cloud: Farm, project: Project, films: Store, scratch: Path
) -> None:
    content = b"evil"
    films.create(films.locate(content_path("0" * 64)), content)
    for path in ("../escape.txt", "/tmp/escape.txt", "a/../../escape.txt", "a\nb", "a//b", ""):
        file = InputFile.model_construct(path=path, sha256="0" * 64, size_bytes=len(content), executable=False)
        manifest = InputManifest.model_construct(files=(file,))
        bundle = manifest.bundle()
        films.create(films.locate(manifest_path(bundle.sha256)), manifest.to_bytes())

        status = await cloud.run(project.job(inputs=bundle))

        assert status.state is JobState.FAILED, path
        assert "inputs: " in (status.error or ""), path
        assert "escape.txt" not in [name for _, _, names in os.walk(scratch.parent) for name in names], path
        assert list(films.folders(films.locate(".longtake"))) == ["inputs"], path


async def test_a_bundle_that_was_never_handed_in_is_one_sentence(cloud: Farm, project: Project) -> None:
    status = await cloud.run(project.job(inputs=InputBundle(sha256="1" * 64, files=1, size_bytes=1)))

    assert status.state is JobState.FAILED
    assert "longtake submit" in (status.error or "")


async def test_a_content_that_was_exchanged_is_refused(cloud: Farm, project: Project, films: Store) -> None:
    sent = upload_inputs(project.job())
    for name in contents(films):
        films.replace(films.locate(content_path(name)), b"x" * films.stat(films.locate(content_path(name))).size_bytes)  # type: ignore[union-attr]

    status = await cloud.run(sent)

    assert status.state is JobState.FAILED
    assert "another content" in (status.error or "")


def test_a_bundle_needs_a_bucket(project: Project) -> None:
    with pytest.raises(ValueError, match="name the bucket in store"):
        project.job(store=None, inputs=InputBundle(sha256="1" * 64, files=1, size_bytes=1))


@pytest.mark.slow
async def test_ctrl_c_ends_an_upload_soon_and_leaves_nothing(
    cloud: Farm, project: Project, films: Store, s3_server: S3Server
) -> None:
    with (project.base / "scene" / "large.bin").open("wb") as large:
        large.truncate(200 << 20)
    bucket = project.store.removeprefix("s3://").partition("/")[0]
    client = s3_server.client()
    async with command_line(cloud) as cli:
        process = await cli.start("submit", project.job_file())
        await eventually(lambda: bool(client.list_multipart_uploads(Bucket=bucket).get("Uploads")), "it is sent")
        process.send_signal(signal.SIGINT)
        ran = await until_exit(process)

    assert (ran.code, ran.out) == (130, "")
    assert "interrupted" in ran.err
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    sizes = [file.size_bytes for file in films.files(films.locate(".longtake/inputs"))]
    assert 200 << 20 not in sizes
    assert not [name for name in films.names(films.locate(".longtake/inputs")) if name.endswith(".json")]
