"""Why orders are refused, where more than the sentence counts."""

from activities.remote.protocol import RefusedOrderError


class BegunBeforeError(RefusedOrderError):
    """An order that was begun already, here or on another instance: it was replayed, or delivered twice."""


class ForbiddenOrderError(RefusedOrderError):
    """A good order for a job that this agent must not touch, or does not see."""
