"""The HTTP API of a farm and its page, served by `longtake web`; Temporal and the stores hold all that it knows."""
