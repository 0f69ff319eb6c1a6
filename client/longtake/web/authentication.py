"""Find out who asks: by a token, by a session's cookie, or by the header of a proxy that has asked for a password."""

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Mapping

from longtake.web.settings import WebSettings
from longtake.web.tokens import Caller, Role, TokenFile

COOKIE = "longtake_session"

# Wrong tokens from one address in so many seconds; then nothing from there is looked at for a while.
_MOST_WRONG = 10
_WRONG_SECONDS = 60.0

# Addresses whose wrong tokens are counted.
_MOST_ADDRESSES = 10_000

# Longest name that a proxy may tell.
_LONGEST_NAME = 100


class TooManyGuessesError(Exception):
    """Raised for an address from which too many wrong tokens came.

    Args:
        seconds: When to come back.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong tokens came from this address; come back in {seconds} s")
        self.seconds = seconds


class Authenticator:
    """Find out who asks.

    Args:
        settings: Settings of the server.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._tokens = TokenFile(settings.token_file) if settings.token_file is not None else None
        self._header = settings.trusted_header.lower() if settings.trusted_header else None
        self._peers = [ipaddress.ip_network(peer, strict=False) for peer in settings.trusted_peers]
        self._proxy_role = settings.trusted_role
        self._guesses = _Guesses()

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the server may do everything."""
        return self._tokens is None and self._header is None

    @property
    def takes_tokens(self) -> bool:
        """Whether a token lets somebody in."""
        return self._tokens is not None

    def identify(self, headers: Mapping[str, str], cookies: Mapping[str, str], peer: str) -> Caller | None:
        """Return who asks; None if that is not known.

        Args:
            headers: Headers of the request, names in lower case.
            cookies: Its cookies.
            peer: Address that it came from.

        Raises:
            TooManyGuessesError: Too many wrong tokens came from there.
            LongtakeError: The tokens cannot be read.
        """
        if self.is_open:
            return Caller("", Role.SUBMIT)
        if self._header is not None and self._is_proxy(peer):
            name = headers.get(self._header, "").strip()
            if name and name.isprintable() and len(name) <= _LONGEST_NAME:
                return Caller(name, self._proxy_role)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else cookies.get(COOKIE, "")
        return self.check(given, peer) if given else None

    def check(self, token: str, peer: str) -> Caller | None:
        """Return whom a token belongs to; None if it is wrong.

        Raises:
            TooManyGuessesError: Too many wrong tokens came from there; this one was not looked at.
            LongtakeError: The tokens cannot be read.
        """
        if self._tokens is None:
            return None
        self._guesses.check(peer)
        caller = self._tokens.find(token)
        if caller is None:
            self._guesses.note(peer)
        return caller

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._peers)


class _Guesses:
    """Count wrong tokens by address."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, peer: str) -> None:
        times = self._wrong.get(_site(peer))
        now = time.monotonic()
        while times and now - times[0] > _WRONG_SECONDS:
            times.popleft()
        if times and len(times) >= _MOST_WRONG:
            raise TooManyGuessesError(max(1, round(_WRONG_SECONDS - (now - times[0]))))

    def note(self, peer: str) -> None:
        self._wrong.setdefault(_site(peer), deque(maxlen=_MOST_WRONG)).append(time.monotonic())
        self._wrong.move_to_end(_site(peer))
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)


def _site(peer: str) -> str:
    """Return what one attacker has many addresses of: of IPv6 that is a network of 64 bits."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    return str(ipaddress.ip_network(f"{peer}/64", strict=False)) if address.version == 6 else peer
