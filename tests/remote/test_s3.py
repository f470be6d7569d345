"""`s3://` against an S3 server on this machine (moto), with s3fs as the client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clep import remote
from clep.errors import InputError
from clep.remote import cache

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    import s3fs

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(cache, "_CHUNK_BYTES", 5000)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if not store.exists("lab"):
        store.mkdir("lab")
    store.pipe("lab/bank.h5", CONTENT)
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_of_a_bucket_is_fetched_and_followed(s3: object) -> None:
    first = remote.local_path("s3://lab/bank.h5")
    assert first.read_bytes() == CONTENT
    assert remote.local_path(Path("s3://lab/bank.h5")) == first
    s3.pipe("lab/bank.h5", CONTENT[::-1])  # type: ignore[attr-defined]
    assert remote.local_path("s3://lab/bank.h5").read_bytes() == CONTENT[::-1]
    with remote.RemoteFile("s3://lab/bank.h5") as file:
        file.seek(-100, 2)
        assert file.read() == CONTENT[::-1][-100:]


def test_a_download_that_was_killed_goes_on(s3: object, monkeypatch: pytest.MonkeyPatch) -> None:
    read_range, starts = cache.read_range, []

    def until_killed(content: object, start: int, count: int) -> bytes:
        starts.append(start)
        if starts == [0, 5000]:
            raise KeyboardInterrupt
        return read_range(content, start, count)

    monkeypatch.setattr(cache, "read_range", until_killed)
    with pytest.raises(KeyboardInterrupt):
        remote.local_path("s3://lab/bank.h5")
    assert remote.local_path("s3://lab/bank.h5").read_bytes() == CONTENT
    assert starts == [0, 5000, 5000, 10000]


def test_folders_of_a_bucket(s3: object) -> None:
    s3.pipe({"lab/videos/a.mp4": b"a", "lab/videos/kitchen/b.mp4": b"b", "lab/videos/c.txt": b"c"})  # type: ignore[attr-defined]
    assert remote.list_files("s3://lab/videos/", (".mp4",)) == {
        "a.mp4": "s3://lab/videos/a.mp4",
        "kitchen/b.mp4": "s3://lab/videos/kitchen/b.mp4",
    }
    folder = remote.local_path("s3://lab/videos", (".mp4",))
    assert (folder / "kitchen" / "b.mp4").read_bytes() == b"b"


def test_what_is_missing_is_named(s3: object) -> None:
    with pytest.raises(remote.NotFoundError, match="s3://lab/none.h5 does not exist"):
        remote.local_path("s3://lab/none.h5")
    with pytest.raises(remote.NotFoundError, match="no bucket: there is no 'nowhere'"):
        remote.local_path("s3://nowhere/bank.h5")
    with pytest.raises(remote.NotFoundError, match="no bucket: there is no 'nowhere'"):
        remote.list_files("s3://nowhere/videos", (".mp4",))


def test_missing_credentials_are_named(s3: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    type(s3).clear_instance_cache()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"s3://lab/bank.h5.*AWS_ACCESS_KEY_ID"):
        remote.local_path("s3://lab/bank.h5")
