"""Signatures are those of the specification."""

import base64
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from activities.notify.webhook import sign_message

KEY = bytes(range(32))

# Of the reference implementations of Standard Webhooks: its secret, message and signature.
VECTOR_SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_that_of_the_reference_implementations() -> None:
    key, body = base64.b64decode(VECTOR_SECRET), b'{"test": 2432232314}'

    assert sign_message([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == VECTOR_SIGNATURE


@given(st.text().map(str.encode), st.integers(0, 2**33))
def test_the_library_of_the_specification_signs_alike(body: bytes, timestamp: int) -> None:
    theirs = Webhook(KEY).sign("msg_1", datetime.fromtimestamp(timestamp, UTC), body.decode())

    assert sign_message([KEY], "msg_1", timestamp, body) == theirs


def test_while_a_receiver_changes_its_secret_each_signs() -> None:
    other = bytes(24)
    both = sign_message([KEY, other], "msg_1", 1, b"{}")

    assert both.split(" ") == [sign_message([key], "msg_1", 1, b"{}") for key in (KEY, other)]
