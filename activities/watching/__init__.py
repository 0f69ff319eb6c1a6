"""Watching a job while work for it runs here: what it wants, and who else could do it."""
