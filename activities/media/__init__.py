"""Reading, checking and joining what renderers wrote."""
