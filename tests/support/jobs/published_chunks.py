"""Chunks that are published in a folder, without a render: their outputs and their records, as many as wanted."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from activities.stores.job_folder import OpenJob, Sidecar, encode_line, encode_record
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile
from longtake.stores.segments import SegmentName

CONTENT = b"rendered\n"
_DIGEST = hashlib.sha256(CONTENT).hexdigest()

# About what a slot renders of quick chunks in a span of ten seconds.
_CHUNKS_A_SEGMENT = 2000


def publish_chunks(job: OpenJob, *, in_segments: bool) -> None:
    """Leave behind what an accepted job leaves that has rendered all of its chunks, each of one file.

    Args:
        job: The job, in a folder.
        in_segments: Whether its spans had many chunks each, which are recorded together; else each has a sidecar.
    """
    folder, count = job.folder, len(job.chunks)
    for place in (folder.segments_dir, folder.sidecars_dir):
        os.makedirs(place, exist_ok=True)
    lines: list[bytes] = []
    for index in range(count):
        record = _publish(job, index)
        if not in_segments:
            Path(folder.sidecar_path(record.key)).write_bytes(encode_record(record))
            continue
        lines.append(encode_line(record))
        if len(lines) == _CHUNKS_A_SEGMENT or index == count - 1:
            segment = SegmentName(folder.segments_dir, index + 1 - len(lines), index, record.attempt)
            Path(segment.closed).write_bytes(b"".join(lines))
            lines = []


def _publish(job: OpenJob, index: int) -> Sidecar:
    key, target = chunk_key(index), job.target(job.chunks[index].first_output)
    attempt = f"chunks-{index // _CHUNKS_A_SEGMENT}.17-1-8c1f2a"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb", buffering=0) as file:
        file.write(CONTENT)
        written = os.fstat(file.fileno())
    published = PublishedFile(
        path=target,
        size_bytes=len(CONTENT),
        sha256=_DIGEST,
        modified_ns=written.st_mtime_ns,
        attempt_path=f"{job.folder.attempt_dir(key, attempt)}/{target.rpartition('/')[2]}",
    )
    return Sidecar(
        key=key,
        digest=job.ref.digest,
        chunk_digest=job.compute_digest(key),
        attempt=attempt,
        host="render-12.example.com",
        frames=1,
        files=(published,),
        render_seconds=0.0123,
        cpu_seconds=0.0101,
        peak_memory_bytes=4 << 20,
        published_at=datetime.now(UTC),
    )
