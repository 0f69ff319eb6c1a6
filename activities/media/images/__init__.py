"""Checking image files: by the structure of their formats, by decoding them, and against one another."""
