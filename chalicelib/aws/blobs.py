"""S3: checkpoints, sent and fetched by URLs that say one object, one verb and a while."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from chalicelib.aws.clients import Clients
from chalicelib.aws.errors import turning
from chalicelib.core.errors import Conflict, NotFound

PART_URL_SECONDS = 3600
REMOVED_AT_ONCE = 1000  # what DeleteObjects takes


class S3Blobs:
    """`Blobs`, kept by S3."""

    def __init__(self, clients: Clients, *, bucket: str) -> None:
        self._clients, self._bucket = clients, bucket

    def begin(self, key: str) -> str:
        """One call."""
        with turning():
            answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
        return str(answer["UploadId"])

    def part_urls(self, key: str, upload: str, first: int, count: int) -> Sequence[str]:
        """No call: a URL is signed here."""
        return [
            self._client.generate_presigned_url(
                "upload_part",
                Params={"Bucket": self._bucket, "Key": key, "UploadId": upload, "PartNumber": number},
                ExpiresIn=PART_URL_SECONDS,
            )
            for number in range(first, first + count)
        ]

    def complete(self, key: str, upload: str, etags: Sequence[str]) -> int:
        """Two calls: the second asks how long the object became.

        Where the first is asked again, by botocore or by whoever did not hear the answer, the upload is gone and the object
        is there.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        missing = Conflict("a part of the upload is missing or is not the one that was sent")
        gone = Conflict("this upload is not, or is no longer, under way")
        with (
            turning(InvalidPart=missing, InvalidPartOrder=missing, MalformedXML=missing),
            suppress(self._client.exceptions.NoSuchUpload),
        ):
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        with turning(**{"404": gone}):
            return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])

    def abandon(self, key: str, upload: str) -> None:
        """One call."""
        try:
            with turning(NoSuchUpload=NotFound("the upload is gone")):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except NotFound:
            return

    def url(self, key: str, lifetime: timedelta) -> str:
        """No call."""
        seconds = int(lifetime.total_seconds())
        params = {"Bucket": self._bucket, "Key": key}
        return str(self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds))

    def remove(self, key: str) -> None:
        """One call; for all below a key two for each thousand, one where there is none."""
        if key.endswith("/"):
            self._remove_below(key)
        else:  # without a list: another checkpoint's key may begin with this whole key
            with turning():
                self._client.delete_object(Bucket=self._bucket, Key=key)

    @property
    def _client(self) -> Any:
        return self._clients["s3"]

    def _remove_below(self, prefix: str) -> None:
        while True:
            with turning():
                found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=REMOVED_AT_ONCE)
                keys = [{"Key": item["Key"]} for item in found.get("Contents", [])]
                if keys:
                    self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
            if not found.get("IsTruncated"):
                return
