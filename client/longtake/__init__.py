"""Longtake: durable distributed rendering on Temporal."""
