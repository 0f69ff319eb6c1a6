"""A folder of files that a job in a bucket reads, and the job."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from activities.stores.job_folder import JobFolder, OpenJob
from longtake import FrameRange, RenderJobSpec, Retry
from longtake.models.inputs import InputFile, InputManifest, content_path, manifest_path
from longtake.models.messages import JobRef
from longtake.stores.store import Store

# Writes what it finds below the folder it runs in, and leaves a file there.
LIST = (
    "import os, sys; "
    "found = [os.path.join(d, n)[2:] for d, _, ns in os.walk('.') for n in ns]; "
    "open('left-by-a-render', 'w').write('x'); "
    "open(sys.argv[1], 'w').write('\\n'.join(f'{p} {open(p).read()} {os.access(p, os.X_OK)}' for p in sorted(found)))"
)


class Project:
    """A folder with a scene, a link and a program in it, and a bucket for its outputs.

    Args:
        base: The folder, which is made.
        store: The bucket.
    """

    def __init__(self, base: Path, store: str) -> None:
        self.base = base
        self.store = store
        for path, content in {
            "scene/a.txt": "a",
            "scene/deep/b.txt": "b",
            "scene/twin.txt": "a",
            "other.txt": "o",
        }.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(content)
        (base / "scene" / "link.txt").symlink_to("../other.txt")
        (base / "render.sh").write_text("#!/bin/sh\ncat scene/a.txt > $1\n")
        (base / "render.sh").chmod(0o755)

    def job(self, **fields: Any) -> RenderJobSpec:
        """Return a job that lists what its renders find."""
        return RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=2, per_chunk=1),
                "command": (sys.executable, "-c", LIST.replace("{", "{{").replace("}", "}}"), "{output}"),
                "chunk_output": "out/{chunk}.txt",
                "store": self.store,
                "base_dir": str(self.base),
                "inputs": ("scene", "render.sh"),
                "retry": Retry(attempts=1),
                **fields,
            }
        )

    def job_file(self) -> str:
        """Write such a job into the folder, as a person would; return its path."""
        document = self.job().to_wire()
        del document["contract"], document["base_dir"]
        (self.base / "job.json").write_text(json.dumps(document))
        return str(self.base / "job.json")


def contents(films: Store) -> list[str]:
    return [name for name in films.names(films.locate(".longtake/inputs")) if not name.endswith(".json")]


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
