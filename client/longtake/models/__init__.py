"""The contract: what crosses the wire between clients, workflows and workers."""
