"""Which URLs a Cloud Run service may have."""

import pytest

from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens


@pytest.mark.parametrize("url", ["render.example", "ftp://host/x", "https://me:secret@host", "https://", "http://h:x"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no URL of a Cloud Run service; write https://HOST") as no:
        CloudRunService(url, concurrency=1)
    assert "secret" not in str(no.value)


def test_tokens_travel_only_by_https() -> None:
    with pytest.raises(ValueError, match="identity tokens travel only by https; write https://render"):
        CloudRunService("http://render.example", concurrency=1, tokens=IdTokens({}))
