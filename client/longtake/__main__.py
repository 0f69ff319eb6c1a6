"""Run the command line: `longtake` and `python -m longtake`."""

import sys


def main() -> int:
    """Run the command line, if the packages it needs are there; return the exit code."""
    try:
        from longtake.cli import app  # noqa: PLC0415  # an extra: services that call Longtake go without
    except ModuleNotFoundError as error:
        sys.stderr.write(f"longtake: {error.name} is not installed; pip install 'longtake[cli]'\n")
        return 1
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
