"""Move the files of jobs between this host and their store: inputs up, results down, and all of it away."""
