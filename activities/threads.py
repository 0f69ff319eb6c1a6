"""Blocking work beside the event loop; see `longtake.threads`."""

from longtake.threads import in_thread, to_the_end

__all__ = ["in_thread", "to_the_end"]
