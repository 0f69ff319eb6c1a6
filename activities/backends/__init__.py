"""Where renders run: one Protocol, one module a platform."""
