"""What people are told of a server that refuses a connection."""

import pytest

from longtake.connection import _explain_refusal


@pytest.mark.parametrize(
    "said",
    [
        "transport error: Os { code: 104, kind: ConnectionReset }",
        '`get_system_info` call error after connection: Status { code: Cancelled, message: "operation was canceled" }',
    ],
)
def test_a_server_that_cuts_the_connection_may_want_tls(said: str) -> None:
    """Which of both comes depends on whether the request was sent when the server cut the connection."""
    sentence = _explain_refusal(RuntimeError(said), "farm:7233", has_key=False)

    assert sentence.startswith("what answers at farm:7233 cuts the connection")
    assert "TEMPORAL_TLS=true" in sentence
