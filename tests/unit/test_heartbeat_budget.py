"""How far apart heartbeats are: by what they say, by how many there are, and by what the server can do."""

import pytest
from temporalio.testing import ActivityEnvironment

from activities.heartbeat_budget import HeartbeatBudget, current_budget
from longtake.models.messages import Heartbeat

PUSHING = HeartbeatBudget(pushes_cancels=True)
ANSWERING = HeartbeatBudget(pushes_cancels=False)
BEFORE = Heartbeat(chunk=3, frames=10)


@pytest.mark.parametrize(
    ("running", "answering", "pushing"),
    [(1, 0.2, 2), (30, 0.2, 2), (150, 1, 2), (450, 3, 3), (750, 5, 5), (10_000, 5, 5)],
)
def test_heartbeats_of_one_workflow_are_at_most_150_a_second_and_none_is_too_late(
    running: int, answering: float, pushing: float
) -> None:
    assert ANSWERING.seconds(BEFORE, BEFORE, running) == answering
    assert PUSHING.seconds(BEFORE, BEFORE, running) == pushing


@pytest.mark.parametrize(
    ("news", "seconds"),
    [
        ({"frames_done": 7, "message": "Fra:7", "cpu_seconds": 3.0}, 2),
        ({"chunk": 4, "rendered": 1, "span_frames": 10}, 1),
        ({"frozen": 2}, 0.2),
        ({"failures": 1, "frames_done": 0}, 0.2),
        ({"given_up": ((3, 4),), "chunk": 4}, 0.2),
        ({"losses": 1}, 0.2),
        ({"ended": True}, 0.2),
    ],
    ids=["progress", "a finished chunk", "frozen", "a failed try", "a failed chunk", "a lost worker", "the end"],
)
def test_news_does_not_wait_for_the_next_heartbeat(news: dict[str, object], seconds: float) -> None:
    assert PUSHING.seconds(BEFORE, BEFORE.model_copy(update=news), 1) == seconds


def test_news_of_many_keeps_the_budget() -> None:
    assert PUSHING.seconds(BEFORE, BEFORE.model_copy(update={"frozen": 2}), 300) == 2


def test_an_activity_of_no_worker_sends_as_if_nothing_was_pushed() -> None:
    assert ActivityEnvironment().run(current_budget) == ANSWERING
