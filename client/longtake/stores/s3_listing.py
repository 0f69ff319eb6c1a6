"""List and empty folders of a bucket, page by page."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from longtake.stores.s3_calls import ExpectedAnswer, S3Answer, describe_refusal, problem_error
from longtake.stores.s3_objects import Objects, to_modified_ns
from longtake.stores.store import StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, MultipartUploadTypeDef

# A folder costs a call; so many at once keep a store with thousands of jobs quick to look through.
_LOOKS_AT_ONCE = 16


def list_files(objects: Objects, folder: str) -> Iterator[StoredFile]:
    """Return the objects directly in a folder, sorted as their store sorts them: by the bytes of their names."""
    prefix = objects.keys.folder(folder)
    for page in _pages(objects, folder, prefix, "/"):
        for found in page.get("Contents", []):
            # Consoles make an object of no name for each folder.
            name = found["Key"].removeprefix(prefix)
            if name and not name.startswith("."):
                location = objects.keys.location(found["Key"])
                yield StoredFile(location, found["Size"], to_modified_ns(found["LastModified"]))


def list_folders(objects: Objects, folder: str) -> Iterator[str]:
    """Return the names of the folders directly in a folder that hold an object, sorted."""
    prefix = objects.keys.folder(folder)

    def holds_object(name: str) -> bool:
        # SeaweedFS, and S3's directory buckets, list a folder for a while after its last object is gone.
        page = objects.calls.call(
            lambda client: client.list_objects_v2(Bucket=objects.keys.bucket, Prefix=f"{prefix}{name}/", MaxKeys=1),
            folder,
        )
        return bool(page.get("Contents"))

    with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="s3-folders") as pool:
        for page in _pages(objects, folder, prefix, "/"):
            names = [found["Prefix"].removeprefix(prefix).rstrip("/") for found in page.get("CommonPrefixes", [])]
            yield from (name for name, holds in zip(names, pool.map(holds_object, names), strict=True) if holds)


def remove_folder(objects: Objects, folder: str) -> None:
    """Remove all objects below a folder, the uploads that were begun there, and this host's folder for it.

    Raises:
        ValueError: It is the store itself.
        StoreError: Something could not be removed; all that could be is gone.
    """
    # The trailing slash keeps it from the neighbours whose names go on.
    prefix = f"{objects.keys.key(folder)}/"
    shutil.rmtree(objects.keys.local(folder), ignore_errors=True)
    kept: dict[str, str] = {}
    for page in _pages(objects, folder, prefix, ""):
        kept |= _delete(objects, folder, [found["Key"] for found in page.get("Contents", [])])
    _abort_uploads(objects, folder, prefix)
    for key, code in kept.items():
        raise problem_error(describe_refusal("DeleteObjects", code), objects.keys.location(key))


def _pages(objects: Objects, folder: str, prefix: str, delimiter: str) -> "Iterator[ListObjectsV2OutputTypeDef]":
    more: dict[str, Any] = {}
    while True:
        page = objects.calls.call(
            lambda client, more=more: client.list_objects_v2(  # type: ignore[misc]
                Bucket=objects.keys.bucket, Prefix=prefix, Delimiter=delimiter, **more
            ),
            folder,
        )
        yield page
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _delete(objects: Objects, folder: str, keys: list[str]) -> dict[str, str]:
    """Remove up to 1,000 objects in one call; return those that could not be, with the store's words for why."""
    if not keys:
        return {}
    answer = objects.calls.call(
        lambda client: client.delete_objects(
            Bucket=objects.keys.bucket,
            Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            ChecksumAlgorithm="SHA256",
        ),
        folder,
    )
    return {refused["Key"]: refused["Code"] for refused in answer.get("Errors", [])}


def _abort_uploads(objects: Objects, folder: str, prefix: str) -> None:
    for upload in list(_uploads(objects, folder, prefix)):
        key, upload_id = upload["Key"], upload["UploadId"]
        try:
            objects.calls.call(
                lambda client, key=key, upload_id=upload_id: client.abort_multipart_upload(  # type: ignore[misc]
                    Bucket=objects.keys.bucket, Key=key, UploadId=upload_id
                ),
                folder,
                expected={S3Answer.NO_UPLOAD},
            )
        except ExpectedAnswer:
            # Its own end came first.
            continue


def _uploads(objects: Objects, folder: str, prefix: str) -> "Iterator[MultipartUploadTypeDef]":
    """Return the uploads that were begun below a prefix and have not ended."""
    asked = prefix
    more: dict[str, Any] = {}
    while True:
        page = objects.calls.call(
            lambda client, asked=asked, more=more: client.list_multipart_uploads(  # type: ignore[misc]
                Bucket=objects.keys.bucket, Prefix=asked, **more
            ),
            folder,
        )
        server = page["ResponseMetadata"]["HTTPHeaders"].get("server", "")
        if asked and server.startswith("MinIO"):
            # It takes a prefix for the name of an object, and lists all only when it is asked for all.
            asked = ""
            continue
        yield from (upload for upload in page.get("Uploads", []) if upload["Key"].startswith(prefix))
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
