"""One try of a chunk or a film: rendering, proving, publishing."""
