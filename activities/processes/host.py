"""Which way of looking at processes this host has."""

import sys

from activities.processes.linux_table import LinuxTable
from activities.processes.process_table import ProcessTable

HAS_EXACT_TREES = sys.platform == "linux"


def process_table(*, exact: bool = HAS_EXACT_TREES) -> ProcessTable:
    """Return the processes of this host.

    Args:
        exact: As Linux shows them; else as psutil does everywhere.
    """
    if exact:
        return LinuxTable()
    # psutil would cost the supervisor, and so each keeper, more than all the rest of it.
    from activities.processes.psutil_table import PortableTable  # noqa: PLC0415

    return PortableTable()
