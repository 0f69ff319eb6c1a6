"""A worker whose heartbeats are too rare to bring a cancel: what it hears at once was pushed to it."""

import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import worker

# Just often enough for Temporal not to give the chunk to another worker.
worker._HEARTBEAT_THROTTLE = timedelta(seconds=7)

if __name__ == "__main__":
    sys.exit(worker.main())
