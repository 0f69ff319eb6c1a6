"""Upload the inputs of jobs to their stores, download their results, and delete their files."""
