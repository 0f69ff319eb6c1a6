"""Stores that earlier versions wrote, as `tests/old_stores/record.py` recorded them, put where a test may use them."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.s3.server import S3Server

from longtake import RenderJobSpec

FOLDER = Path(__file__).resolve().parents[2] / "old_stores"
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if (path / "directory").is_dir())

# Where the stores lay when they were recorded.
RECORDED_BASE = "/tmp/longtake-recording"
RECORDED_BUCKET = "s3://longtake-recording/shows/one"


def recorded(version: str, kind: str) -> dict[str, bytes]:
    """Return the files of a recorded store by their paths in it; `kind` is `directory` or `bucket`."""
    top = FOLDER / version / kind
    top = top / "objects" if kind == "bucket" else top
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def job_files(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the ids of the jobs of a store, and the jobs as they were accepted."""
    for path, content in files.items():
        if found := re.fullmatch(r"\.longtake/([^/]+)/job\.json", path):
            yield found[1], content


@dataclass
class OldStore:
    """A recorded store in another place, with other ids: the tests of a session share one Temporal server."""

    url: str
    ids: dict[str, str]
    files: dict[str, bytes]
    # Renderers go on, or succeed, when this file is there.
    go: Path

    @staticmethod
    def moved(version: str, url: str, base: Path) -> "OldStore":
        """Return a recorded store as it would be, had it been written at `url` by renderers that look into `base`."""
        files = recorded(version, "bucket" if url.startswith("s3://") else "directory")
        ids = {id: f"{id}-{secrets.token_hex(4)}" for id, _ in job_files(files)}
        # The longer one first: it begins with the other.
        texts = {RECORDED_BUCKET: url, f"{RECORDED_BASE}/store": url, RECORDED_BASE: str(base)}
        texts |= {f"/.longtake/{id}/": f"/.longtake/{new}/" for id, new in ids.items()}
        # A job is identified by what it does, and so by where.
        texts |= {_digest(job): _digest(_replaced(job, texts)) for _, job in job_files(files)}
        moved = {}
        for path, content in files.items():
            new = path
            for id, other in ids.items():
                new = new.replace(f".longtake/{id}/", f".longtake/{other}/")
            is_record = path.startswith(".longtake/") and path.endswith(".json") and "/inputs/" not in path
            moved[new] = _long_ago(_replaced(content, texts)) if is_record else content
        return OldStore(url, ids, moved, base / "go")

    def write(self, s3_server: S3Server, version: str) -> None:
        """Put all files where they belong."""
        if not self.url.startswith("s3://"):
            for path, content in self.files.items():
                place = Path(self.url) / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            return
        metadata = json.loads((FOLDER / version / "bucket" / "metadata.json").read_text())
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        client = s3_server.client()
        for (path, content), known in zip(self.files.items(), metadata.values(), strict=True):
            known["longtake-sha256"] = hashlib.sha256(content).hexdigest()
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path}", Body=content, Metadata=known)

    def damage(self, s3_server: S3Server, path: str, content: bytes) -> None:
        """Write a file anew, later than all others: a bucket tells times in seconds, and all was written in one."""
        self.files[path] = content
        if not self.url.startswith("s3://"):
            (Path(self.url) / path).write_bytes(content)
            return
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        client, key = s3_server.client(), f"{prefix}/{path}"
        known = client.head_object(Bucket=bucket, Key=key)["Metadata"]
        known["longtake-sha256"] = hashlib.sha256(content).hexdigest()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        newest = max(found["LastModified"] for page in pages for found in page["Contents"])
        end = time.monotonic() + 10
        while client.head_object(Bucket=bucket, Key=key)["LastModified"] <= newest:
            assert time.monotonic() < end, "the clock of the bucket stands still"
            client.put_object(Bucket=bucket, Key=key, Body=content, Metadata=known)

    def job(self, id: str) -> RenderJobSpec:
        """Return a job as it was accepted."""
        return RenderJobSpec.model_validate_json(self.files[f".longtake/{self.ids[id]}/job.json"])

    def of(self, id: str) -> set[str]:
        """Return the files that a job has made: what it published, its logs and its records."""
        outputs = {"film": ("film/", "film.mp4"), "texts": ("texts/",)}.get(plain(id), (f"{plain(id)}/",))
        return {path for path in self.files if path.startswith((*outputs, f".longtake/{self.ids[id]}/"))}


def plain(id: str) -> str:
    """Return the name of a job, which its outputs have too."""
    return id.removeprefix("bucket-")


def _digest(job: bytes) -> str:
    return RenderJobSpec.model_validate_json(job).digest()


def _replaced(content: bytes, texts: dict[str, str]) -> bytes:
    for old, new in texts.items():
        content = content.replace(old.encode(), new.encode())
    return content


def _long_ago(record: bytes) -> bytes:
    """Return a record whose call of a service is over, whatever the clock of this machine says."""
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat().encode()
    return re.sub(rb'("(?:called_at|ends_at)": ?)"[^"]*"', rb'\1"' + hour_ago + b'"', record)
