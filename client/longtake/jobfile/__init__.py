"""Read job files: YAML, JSON and the `job.json` of Helios."""
