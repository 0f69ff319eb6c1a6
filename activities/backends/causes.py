"""What lies behind an error that libraries have wrapped."""

from typing import TypeVar

Kind = TypeVar("Kind", bound=BaseException)

# HTTP clients wrap an error of the system three times over.
_MOST_LAYERS = 12


def cause_of(error: BaseException, kind: type[Kind]) -> Kind | None:
    """Return the first error of this kind among an error and what led to it."""
    layer: BaseException | None = error
    for _ in range(_MOST_LAYERS):
        if layer is None or isinstance(layer, kind):
            return layer
        layer = layer.__cause__ or layer.__context__
    return None
