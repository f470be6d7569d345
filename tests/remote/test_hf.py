"""`hf://` files of a hub, against a stand-in of its HTTP interface."""

from pathlib import Path

import pytest

from clep import remote
from tests.hub_server import Hub

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def hub(hub: Hub) -> Hub:
    hub.commit("lab/data", {"bank.h5": CONTENT})
    return hub


def test_a_file_of_a_repository_is_fetched_and_followed(hub: Hub) -> None:
    first = remote.local_path("hf://lab/data/bank.h5")
    assert first.read_bytes() == CONTENT
    assert remote.local_path(Path("hf://lab/data/bank.h5")) == first
    with remote.RemoteFile("hf://lab/data/bank.h5") as file:
        file.seek(-100, 2)
        assert file.read() == CONTENT[-100:]
    hub.commit("lab/data", {"bank.h5": CONTENT[::-1]})
    assert remote.local_path("hf://lab/data/bank.h5").read_bytes() == CONTENT[::-1]


def test_what_is_missing_is_named(hub: Hub) -> None:
    for url in ("hf://lab/data/none.h5", "hf://lab/none/bank.h5"):
        with pytest.raises(remote.NotFoundError, match=f"{url} does not exist"):
            remote.local_path(url)
