"""Functions of the tests, run by AWS's runtime client as any other."""

import os
import time
from typing import Any


def answer(event: Any, context: Any) -> Any:
    """Answer what the event says, to the byte if it is `raw`, after so many seconds; or fail as it says."""
    time.sleep(event.get("seconds", 0))
    if "megabytes" in event:
        return "x" * (event["megabytes"] << 20)
    if "error" in event:
        raise RuntimeError(event["error"])
    if "exit" in event:
        os._exit(event["exit"])
    if "signal" in event:
        os.kill(os.getpid(), event["signal"])
    return event["raw"].encode() if "raw" in event else event.get("answer")


def whoami(event: Any, context: Any) -> dict[str, Any]:
    """Tell what Lambda told the function."""
    return {
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "pid": os.getpid(),
        "environ": sorted(os.environ),
        "event": event,
    }
