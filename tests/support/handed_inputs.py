"""Inputs in a bucket, handed in without the code that clients use, and jobs that name them."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from activities.stores.job_folder import JobFolder, OpenJob
from longtake import FrameRange, RenderJobSpec
from longtake.models.inputs import InputFile, InputManifest, content_path, manifest_path
from longtake.models.messages import JobRef
from longtake.stores.store import Store

SCENE = {"scene/a.txt": b"a", "scene/deep/b.txt": b"b" * 1000, "twin.txt": b"a", "run.sh": b"#!/bin/sh\n"}


class Handed(NamedTuple):
    """Inputs that were handed in: by path, with their contents."""

    store: Store
    files: dict[str, bytes]
    job: OpenJob


class HandIn:
    """Hands inputs in to an empty place in a bucket.

    Args:
        store: The place.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, files: dict[str, bytes], *, executable: str = "") -> Handed:
        listed = []
        for path, content in sorted(files.items()):
            digest = hashlib.sha256(content).hexdigest()
            self.store.create(self.store.locate(content_path(digest)), content)
            is_program = path == executable
            listed.append(InputFile(path=path, sha256=digest, size_bytes=len(content), executable=is_program))
        return Handed(self.store, files, job_of(self.store, InputManifest(files=tuple(listed))))


def job_of(store: Store, manifest: InputManifest) -> OpenJob:
    bundle = manifest.bundle()
    store.create(store.locate(manifest_path(bundle.sha256)), manifest.to_bytes())
    spec = RenderJobSpec(
        frames=FrameRange(count=1),
        command=("x", "{output}"),
        chunk_output="{chunk}.txt",
        store=store.url,
        inputs=bundle,
    )
    return OpenJob(JobFolder(store, "job"), JobRef(id="job", base_dir="", digest="", store=store.url), spec, None)


def found_in(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "contents").iterdir())
