"""What an agent knows of its instance: its memory, and what still runs of an attempt."""

from pathlib import Path

import pytest

from agent.agent import count_tagged, read_memory_mb


@pytest.mark.parametrize(
    ("files", "mb"),
    [
        ({"memory.max": "2147483648\n"}, 2048),
        ({"memory.max": "max\n"}, 0),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 512),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0),
        ({}, 0),
    ],
)
def test_the_memory_of_an_instance_is_that_of_its_group(tmp_path: Path, files: dict[str, str], mb: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert read_memory_mb({}, tmp_path) == mb
    assert read_memory_mb({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}, tmp_path) == 3008


def test_nobody_carries_a_tag_that_nobody_has() -> None:
    assert count_tagged({"LONGTAKE_ATTEMPT": "of-nobody"}) == 0
