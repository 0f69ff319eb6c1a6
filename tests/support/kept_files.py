"""All that is in a store, looked at without its own code."""

from pathlib import Path

from s3_server import S3Server


def everything(url: str, s3_server: S3Server) -> dict[str, bytes]:
    """Return all files of a store, hidden ones and unfinished ones too, by their paths in it; folders end in a /."""
    if not url.startswith("s3://"):
        found = sorted(Path(url).rglob("*"))
        files = {f"{path.relative_to(url)}": path.read_bytes() for path in found if path.is_file()}
        return files | {f"{path.relative_to(url)}/": b"" for path in found if path.is_dir()}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = s3_server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not uploads, f"uploads were begun and never ended: {uploads}"
    return {key.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
