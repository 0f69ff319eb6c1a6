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

# Calls at the same time, because each folder of a listing costs one call and a store may have thousands of jobs.
_CALLS_AT_ONCE = 16


def list_files(objects: Objects, folder: str) -> Iterator[StoredFile]:
    """Yield the objects directly in a folder, in the order of the service: by the bytes of their names."""
    prefix = objects.keys.folder(folder)
    for page in _pages(objects, folder, prefix, "/"):
        for found in page.get("Contents", []):
            # Consoles create an object with an empty name for each folder.
            name = found["Key"].removeprefix(prefix)
            if name and not name.startswith("."):
                location = objects.keys.location(found["Key"])
                yield StoredFile(location, found["Size"], to_modified_ns(found["LastModified"]))


def list_folders(objects: Objects, folder: str) -> Iterator[str]:
    """Yield the names of the folders directly in a folder that hold an object, sorted."""
    prefix = objects.keys.folder(folder)

    def holds_object(name: str) -> bool:
        # SeaweedFS, and S3's directory buckets, list a folder for a while after its last object is gone.
        page = objects.calls.call(
            lambda client: client.list_objects_v2(Bucket=objects.keys.bucket, Prefix=f"{prefix}{name}/", MaxKeys=1),
            folder,
        )
        return bool(page.get("Contents"))

    with ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="s3-folders") as pool:
        for page in _pages(objects, folder, prefix, "/"):
            names = [found["Prefix"].removeprefix(prefix).rstrip("/") for found in page.get("CommonPrefixes", [])]
            yield from (name for name, holds in zip(names, pool.map(holds_object, names), strict=True) if holds)


def remove_folder(objects: Objects, folder: str) -> None:
    """Remove all objects below a folder, the unfinished uploads there, and the local folder that stands for it.

    Raises:
        ValueError: The folder is the store itself.
        StoreError: An object could not be removed; all others are removed.
    """
    # With the trailing slash, `job-1` does not match `job-10`.
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
    """Remove up to 1,000 objects in one call; return the keys of those that remain, with the code of each error."""
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
            # The upload was completed or aborted meanwhile.
            continue


def _uploads(objects: Objects, folder: str, prefix: str) -> "Iterator[MultipartUploadTypeDef]":
    """Yield the unfinished uploads below a prefix."""
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
            # MinIO takes the prefix for the name of an object, and lists other uploads only without a prefix.
            asked = ""
            continue
        yield from (upload for upload in page.get("Uploads", []) if upload["Key"].startswith(prefix))
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
