"""The workflow `RenderJob`, and the pure scheduling under it."""
