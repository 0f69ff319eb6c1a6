"""How far renderers are: read from what they print and from the files they finish."""
