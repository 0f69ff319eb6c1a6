"""Render chunks by services elsewhere: calling them, following their agents, and stopping these."""
