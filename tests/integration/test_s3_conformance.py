"""What a bucket's service must do for a store to keep its promises, asked of the server in the box.

LONGTAKE_TEST_S3=https://endpoint, with the keys of the AWS_* variables, asks another service.
"""

import base64
import hashlib
import http.client
import secrets
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.s3.server import S3Server

from longtake.stores.s3_objects import ObjectAddress

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

pytestmark = pytest.mark.integration

# The least that S3 takes for a part that is not the last.
PART = b"p" * (5 << 20)


class Place:
    """An empty prefix of a bucket, and a client that tries nothing again."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.bucket = server.bucket("conformance")
        self.prefix = f"{secrets.token_hex(6)}/"
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, max_pool_connections=60)
        self.client: S3Client = server.session().client("s3", endpoint_url=server.url, config=config)

    def key(self, name: str) -> str:
        return self.prefix + name

    def where(self, name: str) -> ObjectAddress:
        return {"Bucket": self.bucket, "Key": self.key(name)}

    def put(self, name: str, content: bytes, **more: str) -> None:
        self.client.put_object(**self.where(name), Body=content, **more)  # type: ignore[arg-type]

    def content(self, name: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=self.key(name))["Body"].read()

    def listed(self, delimiter: str = "") -> list[str]:
        """Return all keys and common prefixes, asked for two at a time."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix, Delimiter=delimiter, PaginationConfig={"PageSize": 2}
        )
        found: list[str] = []
        for page in pages:
            found += [entry["Key"] for entry in page.get("Contents", [])]
            found += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return [key.removeprefix(self.prefix) for key in found]

    def begin(
        self, name: str, content: bytes, metadata: dict[str, str] | None = None
    ) -> "tuple[str, list[CompletedPartTypeDef]]":
        """Send an object in two parts that is yet to be completed."""
        where = self.where(name)
        upload = self.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256", Metadata=metadata or {})[
            "UploadId"
        ]
        parts: list[CompletedPartTypeDef] = []
        for number, part in enumerate((content[: len(PART)], content[len(PART) :]), 1):
            sent = self.client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=part, ChecksumSHA256=sha256(part)
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": sha256(part)})
        return upload, parts

    def complete(self, name: str, upload: str, parts: "list[CompletedPartTypeDef]") -> None:
        self.client.complete_multipart_upload(
            **self.where(name),
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            IfNoneMatch="*",
        )


@pytest.fixture
def place(s3_server: S3Server) -> Iterator[Place]:
    place = Place(s3_server)
    yield place
    for name in place.listed():
        place.client.delete_object(**place.where(name))


def sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def status_of(raised: pytest.ExceptionInfo[ClientError]) -> int:
    return int(raised.value.response["ResponseMetadata"]["HTTPStatusCode"])


def test_an_exclusive_put_never_goes_over_an_object(place: Place) -> None:
    place.put("film", b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as raised:
        place.put("film", b"second", IfNoneMatch="*")
    assert status_of(raised) == 412
    assert place.content("film") == b"first"


@pytest.mark.slow
def test_of_many_who_put_exclusively_one_wins(place: Place) -> None:
    def win(writer: int, key: int) -> bool:
        try:
            place.put(f"key-{key}", b"%d" % writer, IfNoneMatch="*")
        except ClientError as error:
            # 409 is S3's "try again": https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return False
            raise
        return True

    # All at once: SeaweedFS has those who lose a race wait for a second.
    with ThreadPoolExecutor(60) as pool:
        races = [[pool.submit(win, writer, key) for writer in range(6)] for key in range(50)]
        for key, race in enumerate(races):
            won = [future.result() for future in race]
            assert won.count(True) == 1, key
            assert place.content(f"key-{key}") == b"%d" % won.index(True)


def test_an_upload_in_parts_appears_whole_and_never_goes_over_an_object(place: Place) -> None:
    content = PART + b"the end"
    upload, parts = place.begin("film", content)
    assert place.listed() == []

    place.complete("film", upload, parts)

    assert place.content("film") == content
    upload, parts = place.begin("film", b"q" * len(PART) + b"another")
    with pytest.raises(ClientError) as raised:
        place.complete("film", upload, parts)
    assert status_of(raised) == 412
    assert place.content("film") == content
    place.client.abort_multipart_upload(**place.where("film"), UploadId=upload)
    assert "Uploads" not in place.client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.key("film"))


def test_an_upload_that_is_gone_cannot_be_completed(place: Place) -> None:
    """Who finds the claim of a writer that died relies on it."""
    upload, parts = place.begin("film", PART + b"the end")
    place.complete("film", upload, parts)
    place.client.delete_object(**place.where("film"))
    aborted, aborted_parts = place.begin("film", PART + b"another")
    place.client.abort_multipart_upload(**place.where("film"), UploadId=aborted)
    for gone in ((upload, parts), (aborted, aborted_parts)):
        with pytest.raises(ClientError, match="NoSuchUpload"):
            place.complete("film", *gone)
    assert place.listed() == []


def test_a_copy_never_goes_over_an_object(place: Place) -> None:
    """Longtake does without it, for services that ignore the header; those it names are to say 412."""
    place.put("film", b"first")
    place.put("other", b"second")
    with pytest.raises(ClientError) as raised:
        place.client.copy_object(
            **place.where("film"), CopySource={"Bucket": place.bucket, "Key": place.key("other")}, IfNoneMatch="*"
        )
    assert status_of(raised) == 412
    assert place.content("film") == b"first"


def test_what_was_damaged_on_its_way_is_refused(place: Place) -> None:
    with pytest.raises(ClientError) as raised:
        place.put("film", b"damaged", ChecksumSHA256=sha256(b"sent"))
    assert status_of(raised) == 400
    where = place.where("parts")
    upload = place.client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError) as raised:
        place.client.upload_part(
            **where, UploadId=upload, PartNumber=1, Body=b"damaged", ChecksumSHA256=sha256(b"sent")
        )
    assert status_of(raised) == 400
    place.client.abort_multipart_upload(**where, UploadId=upload)
    assert place.listed() == []


def test_metadata_is_kept(place: Place) -> None:
    metadata = {"longtake-sha256": "0" * 64, "longtake-token": "ab12"}
    place.client.put_object(**place.where("whole"), Body=b"x", Metadata=metadata)
    place.complete("parts", *place.begin("parts", PART + b"the end", metadata))
    for name in ("whole", "parts"):
        assert place.client.head_object(**place.where(name))["Metadata"] == metadata


def test_a_range_is_of_one_object_or_of_none(place: Place) -> None:
    where = place.where("film")
    place.put("film", b"0123456789")
    etag = place.client.head_object(**where)["ETag"]
    answer = place.client.get_object(**where, Range="bytes=2-4", IfMatch=etag)
    assert (answer["Body"].read(), answer["ContentRange"]) == (b"234", "bytes 2-4/10")

    place.put("film", b"another one")

    with pytest.raises(ClientError) as raised:
        place.client.get_object(**where, Range="bytes=2-4", IfMatch=etag)
    assert status_of(raised) == 412


def test_a_listing_tells_all_there_is_at_once(place: Place) -> None:
    names = ["a", "a b", "a+b", "b/1", "b/2", "d/1", "c", "Ü%2F"]
    for name in names:
        place.put(name, b"x")
    assert sorted(place.listed()) == sorted(names)
    assert sorted(place.listed("/")) == sorted(["a", "a b", "a+b", "b/", "d/", "c", "Ü%2F"])
    place.client.delete_object(**place.where("c"))
    assert "c" not in place.listed()


def test_the_names_of_a_folder_come_in_the_order_of_their_bytes(place: Place) -> None:
    names = ["a", "a b", "a+b", "a-b", "aa", "b", "ü", "映"]
    for name in reversed(names):
        place.put(f"folder/{name}", b"x")
    assert place.listed("") == [f"folder/{name}" for name in names]


# What CVE-2026-40344 and CVE-2026-41145 are about: a body of this kind is signed in its head alone, and MinIO took it
# from whoever named a key.
UNSIGNED = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32"}
CRC32 = base64.b64encode(zlib.crc32(b"forged").to_bytes(4, "big"))
CHUNKED = b"6\r\nforged\r\n0\r\nx-amz-checksum-crc32:" + CRC32 + b"\r\n\r\n"


@pytest.mark.parametrize("way", ["nobody", "a header", "the query"])
def test_nobody_writes_without_a_signature(place: Place, way: str) -> None:
    place.put("film", b"first")
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{place.server.access_key}/{date[:8]}/us-east-1/s3/aws4_request"
    signed = "host;x-amz-content-sha256;x-amz-date"
    path, headers = f"/{place.bucket}/{place.key('film')}", {**UNSIGNED, "x-amz-date": date}
    if way == "a header":
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={'0' * 64}"
    if way == "the query":
        path += f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(scope, safe='')}&X-Amz-Date={date}"
        path += f"&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature={'0' * 64}"
    headers |= {"x-amz-decoded-content-length": "6", "content-encoding": "aws-chunked"}

    url = urlsplit(place.server.url)
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connect(url.netloc, timeout=30)
    try:
        connection.request("PUT", path, body=CHUNKED, headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()

    assert 400 <= status < 500
    assert place.content("film") == b"first"
