"""Render processes: starting them, watching them, and ending whole trees."""
