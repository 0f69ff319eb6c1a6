"""`longtake` and `python -m longtake`."""

import sys

from longtake.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
