"""Splitting a command line into arguments, by the rules that Helios job files are written for."""

from longtake.errors import BadJobError

# JavaScript's `\s`. Python's str.isspace differs both ways: it has U+001C-001F and U+0085, and lacks U+FEFF.
_SPACES = frozenset(
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


def split_command(text: str) -> tuple[str, ...]:
    r"""Return the arguments of a command line; no shell is involved and nothing is expanded.

    A backslash makes the next character literal everywhere, inside quotes too; quotes only group; an unterminated
    quote reaches to the end. `shlex.split` decides each of these differently, and job files written for
    Helios rely on them.

    Raises:
        BadJobError: The text is empty or blank.
    """
    arguments: list[str] = []
    token: list[str] = []
    quote = ""
    in_token = escaped = False
    for character in text:
        if escaped:
            token.append(character)
            escaped = False
            in_token = True
        elif character == "\\":
            escaped = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                token.append(character)
        elif character in "'\"":
            quote = character
            in_token = True
        elif character in _SPACES:
            if in_token:
                arguments.append("".join(token))
                token, in_token = [], False
        else:
            token.append(character)
            in_token = True
    if in_token:
        arguments.append("".join(token))
    if not text.strip("".join(_SPACES)):
        raise BadJobError("command: is empty; write the program and its arguments")
    return tuple(arguments)
