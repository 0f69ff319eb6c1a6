"""Workflows: RenderJob and the pure scheduling it stands on."""
