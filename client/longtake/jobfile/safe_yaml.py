"""Load the subset of YAML that has one meaning: the values of JSON, without dates, duplicate keys and odd numbers."""

import re

import yaml
from yaml import MappingNode, Node, SafeLoader, ScalarNode
from yaml.constructor import ConstructorError

from longtake.text import escape_text, quote_value

# YAML is read at some 0.2 MB a second; longer lists are written by programs, which can write JSON.
LARGEST_YAML_BYTES = 4 * 1024 * 1024

# Bound on values with aliases expanded: a few lines of nested aliases would become billions of values.
_MOST_VALUES = 1_000_000

# Numbers that YAML 1.1 reads otherwise than people: 010 is an 8 and 1:30 a 90.
_MISREAD_NUMBER = re.compile(r"[-+]?0[\d_]+|[-+]?\d[\d_]*(:\d+)+(\.\d*)?")

_KNOWN_TAGS = frozenset({"null", "bool", "int", "float", "str", "seq", "map"})


def load_yaml(text: str) -> object:
    """Parse a YAML text and return its value; dates stay text.

    Raises:
        ValueError: `where: what is wrong; the fix`.
    """
    if len(text) > LARGEST_YAML_BYTES:
        raise ValueError(f"it has over {LARGEST_YAML_BYTES // 2**20} MiB; write lists this long as JSON")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(
            f"{where}{escape_text(error.problem or error.context or 'it is no YAML', 200)}; mend it there"
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(
            f"line {line}: the character {quote_value(chr(int(error.character)))} may not stand in YAML; take it out"
        ) from error


class _Loader(SafeLoader):
    """Load YAML without duplicate keys, without dates, and with a bound on aliases."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0
        self._sizes: dict[Node, int] = {}

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        before, is_alias = self._values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        assert node is not None  # there was an event
        if not is_alias:
            self._values += 1
            self._sizes[node] = self._values - before
        elif node not in self._sizes:
            raise ConstructorError(problem="an alias stands inside this, which it names", problem_mark=node.start_mark)
        else:
            self._values += self._sizes[node]
            if self._values > _MOST_VALUES:
                problem = f"aliases make more than {_MOST_VALUES:,} values of this"
                raise ConstructorError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.tag.endswith(":bool"):
                    # `on` is a key of `notify`, and true in YAML 1.1.
                    key.tag = "tag:yaml.org,2002:str"
                if key.value in seen:
                    raise ConstructorError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: Node, deep: bool = False) -> object:
        if (
            isinstance(node, ScalarNode)
            and node.tag.endswith((":int", ":float"))
            and _MISREAD_NUMBER.fullmatch(node.value)
        ):
            problem = f"{node.value} is not the number it looks like; put it in quotes, or write no leading zeros"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError) as error:
            problem = f"{quote_value(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _KNOWN_TAGS
}
