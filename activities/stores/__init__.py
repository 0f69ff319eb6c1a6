"""Where outputs are published, and how a result becomes final."""
