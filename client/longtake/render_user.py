"""Find the account that renders run under where it is not the worker's own (`LONGTAKE_RENDER_USER`)."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import LongtakeError

VARIABLE = "LONGTAKE_RENDER_USER"

# What a worker must be allowed (capabilities(7)), by number: to switch; to end, measure and find processes of the other
# account; to give it the folders of attempts, to read what it wrote there, and to take that back.
_NEEDED_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_PTRACE": 19,
}


@dataclass(frozen=True)
class RenderUser:
    """The account that renders run under.

    Args:
        name: Name of the account, or its uid where it has none.
        uid: Its user id.
        gid: Its group id.
        groups: All of its groups; those of a GPU, for one.
        home: Its home, which need not be there.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a render that tell whose it is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def may_enter(self, folder: os.stat_result) -> bool:
        """Tell by the mode of a folder whether the account may reach what is in it."""
        if folder.st_uid == self.uid:
            return bool(folder.st_mode & 0o100)
        return bool(folder.st_mode & (0o010 if folder.st_gid in (self.gid, *self.groups) else 0o001))


def find_render_user(text: str) -> RenderUser | None:
    """Return the account that a setting names, by name or uid; None where it is not set.

    Raises:
        LongtakeError: There is no such account, or this process may not switch to it; one sentence with the fix.
    """
    if not text:
        return None
    if sys.platform != "linux":
        raise LongtakeError(
            f"{VARIABLE} works on Linux only; leave it out, and run the worker under an account of its own"
        )
    user = _find_account(text)
    if user.uid == 0:
        raise LongtakeError(f"{VARIABLE} is {text}, which is root and may read everything; name another account")
    if user.uid == os.getuid():
        raise LongtakeError(
            f"{VARIABLE} is {text}, the account of this process itself, whose secrets it may read; name another one"
        )
    lacking = _find_lacking_capabilities()
    if lacking:
        raise LongtakeError(
            f"{VARIABLE} is {text}, and this process may not switch to it, because it lacks {', '.join(lacking)}; "
            "start the worker as root or with these capabilities, or leave the setting out"
        )
    for kind, number in (("uid", user.uid), ("gid", user.gid)):
        if not _is_mapped(kind, number):
            raise LongtakeError(
                f"{VARIABLE} is {text}, and the {kind} {number} does not exist in the user namespace of this process; "
                "name an account that its container maps"
            )
    return user


def _find_account(text: str) -> RenderUser:
    import pwd  # noqa: PLC0415  # not on Windows, where `longtake doctor` runs too

    try:
        account = pwd.getpwuid(int(text)) if text.isascii() and text.isdigit() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        # The kernel keeps the last uid for "no change".
        if text.isascii() and text.isdigit() and int(text) < 2**32 - 1:
            # A container's image need not know its uids.
            return RenderUser(text, int(text), int(text), (), "/")
        raise LongtakeError(
            f"{VARIABLE} is {text}, and there is no such account on this host; create it (`useradd --system {text}`) "
            "or name another"
        ) from None
    groups = tuple(os.getgrouplist(account.pw_name, account.pw_gid))
    return RenderUser(account.pw_name, account.pw_uid, account.pw_gid, groups, account.pw_dir or "/")


def _find_lacking_capabilities() -> list[str]:
    words = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    effective = int(words["CapEff"], 16)
    return [name for name, number in _NEEDED_CAPABILITIES.items() if not effective >> number & 1]


def _is_mapped(kind: str, number: int) -> bool:
    """Tell whether there is such a uid or gid in the user namespace of this process (user_namespaces(7))."""
    for line in Path(f"/proc/self/{kind}_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= number < first + count:
            return True
    return False
