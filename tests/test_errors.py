from pathlib import Path

import pytest

from clep.errors import InputError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"{Path('s3://lab/bank.h5')} does not exist", "s3://lab/bank.h5 does not exist"),
        (f"in '{Path('hf://datasets/a/b.csv')}'", "in 'hf://datasets/a/b.csv'"),
        (f"[{Path('https://host/a')}, {Path('memory://b')}]", "[https://host/a, memory://b]"),
        ("s3://lab/bank.h5 stays", "s3://lab/bank.h5 stays"),
        ("./s3:/bank.h5 and /data/hf:/x are local", "./s3:/bank.h5 and /data/hf:/x are local"),
        ("C:/x, key:/y and 3:/4 are no URLs", "C:/x, key:/y and 3:/4 are no URLs"),
    ],
)
def test_urls_in_messages_are_written_as_they_are_typed(message: str, shown: str) -> None:
    assert str(InputError(message)) == shown
