"""Models of the messages between clients, workflows and workers."""
