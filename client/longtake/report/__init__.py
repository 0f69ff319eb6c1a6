"""Reports of jobs: what was rendered where and when, what failed, and what proves the outputs."""
