"""Signatures are those of the specification, and addresses that are not public are told from others."""

import base64
import ipaddress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from activities.notify.webhook import may_connect, sign_message

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


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::7f00:1", "64:ff9b:1::a00:1", "fec0::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_not_connected_to(address: str) -> None:
    assert not may_connect(address, ())


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_public_addresses_are(address: str) -> None:
    assert may_connect(address, ())


def test_networks_that_are_named_are() -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

    assert may_connect("10.1.2.3", networks)
    assert may_connect("::ffff:10.1.2.3", networks)
    assert may_connect("fd00::1", networks)
    assert not may_connect("172.16.0.1", networks)
    assert not may_connect("169.254.169.254", networks)
