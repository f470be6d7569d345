"""Files behind URLs: the cache, downloads that are cut, ranges, folders, and what each error says."""

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from clep import remote
from clep.errors import InputError
from clep.remote import cache, reading
from tests.remote.http_server import FileServer, serve

CONTENT = bytes(range(256)) * 40  # 10,240 bytes


@pytest.fixture(autouse=True)
def _small_parts_and_two_tries(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cache, reading):
        monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(cache, "_CHUNK_BYTES", 1000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(FileServer({"/bank.h5": CONTENT})) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a.h5", "s3://bucket/a.h5"),
        (Path("s3://bucket/a.h5"), "s3://bucket/a.h5"),
        (Path("https://host/a b.csv?x=1"), "https://host/a b.csv?x=1"),
        ("hf://datasets/user/name@main/a.csv", "hf://datasets/user/name@main/a.csv"),
        (Path("memory://a.h5"), "memory://a.h5"),
    ],
)
def test_a_url_is_known_also_where_pathlib_folded_it(path: str | Path, expected: str) -> None:
    assert remote.is_remote(path)
    assert remote.url_of(path) == expected


@pytest.mark.parametrize("path", ["bank.h5", "/data/s3/bank.h5", "./s3:/bank.h5", "user/name", "C:\\bank.h5"])
def test_a_local_path_is_none(path: str) -> None:
    assert not remote.is_remote(path)


def test_local_paths_are_returned_and_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    assert remote.local_path(tmp_path / "a.csv") == tmp_path / "a.csv"
    assert remote.local_path(f"file://{tmp_path}/a.csv") == tmp_path / "a.csv"
    with pytest.raises(InputError, match=r"htps://host/a.csv.*'htps'.*https://host/a.csv"):
        remote.local_path("htps://host/a.csv")
    with pytest.raises(InputError, match=r"'data'.*without '://'"):
        remote.exists(Path("data://pairs.csv"))


def test_messages_show_neither_password_nor_signature() -> None:
    assert remote.shown("https://me:secret@host/a.csv?X-Amz-Signature=123") == "https://***@host/a.csv"


def test_a_file_is_fetched_once_and_again_when_it_changes(server: FileServer) -> None:
    url = f"{server.address}/bank.h5"
    first = remote.local_path(url)
    assert first.read_bytes() == CONTENT
    assert first.name == "bank.h5"
    asked = server.sent("/bank.h5")
    assert asked == 11  # ranges of 1,000 bytes
    assert remote.local_path(Path(url)) == first
    assert server.sent("/bank.h5") == asked
    server.files["/bank.h5"] = CONTENT[::-1]
    second = remote.local_path(url)
    assert second.read_bytes() == CONTENT[::-1]
    assert first.read_bytes() == CONTENT  # a process may have mapped it


def test_a_download_that_is_cut_goes_on_where_it_ended(server: FileServer) -> None:
    url = f"{server.address}/bank.h5"
    server.breaks = [1000, 1000, 1000, 300, 300, 300]  # three whole ranges; then three attempts fail
    with pytest.raises(remote.UnreachableError, match="bank.h5 cannot be read now"):
        remote.local_path(url)
    (part,) = cache.cache_folder().rglob("*.part")
    assert part.read_bytes() == CONTENT[:3000]
    assert not [path for path in cache.cache_folder().rglob("bank.h5") if path.is_file()]
    server.requests.clear()
    assert remote.local_path(url).read_bytes() == CONTENT
    ranges = [wanted for method, _, wanted in server.requests if method == "GET"]
    assert ranges[0] == "bytes=3000-3999"
    assert len(ranges) == 8
    assert not part.exists()


def test_a_download_starts_anew_when_the_file_changed_in_between(server: FileServer) -> None:
    url = f"{server.address}/bank.h5"
    server.breaks = [1000, 300, 300, 300]
    with pytest.raises(InputError):
        remote.local_path(url)
    server.files["/bank.h5"] = CONTENT[::-1]
    assert remote.local_path(url).read_bytes() == CONTENT[::-1]


def test_a_file_that_changes_while_it_is_fetched_is_fetched_again(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = cache._receive

    def and_replace(info: remote.store.RemoteInfo, out: object) -> None:
        receive(info, out)  # type: ignore[arg-type]
        server.files["/bank.h5"] = CONTENT[::-1]

    monkeypatch.setattr(cache, "_receive", and_replace)
    assert remote.local_path(f"{server.address}/bank.h5").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges(server: FileServer) -> None:
    server.ranges = False
    server.breaks = [1000, 4000]
    assert remote.local_path(f"{server.address}/bank.h5").read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_long_files_are(server: FileServer) -> None:
    server.ranges = server.sizes = False
    url = f"{server.address}/bank.h5"
    assert remote.local_path(url).read_bytes() == CONTENT
    with remote.RemoteFile(url) as file:
        assert file.size == len(CONTENT)
        file.seek(100)
        assert file.read(10) == CONTENT[100:110]


def test_threads_that_want_the_same_file_fetch_it_once(server: FileServer) -> None:
    url, found = f"{server.address}/bank.h5", []
    threads = [threading.Thread(target=lambda: found.append(remote.local_path(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert found[0].read_bytes() == CONTENT
    assert server.sent("/bank.h5") == 11


def test_the_copy_is_used_where_the_server_is_gone(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    url = f"{server.address}/bank.h5"
    kept = remote.local_path(url)
    server.status["/bank.h5"] = 503
    assert remote.local_path(url) == kept
    assert "503" in caplog.text
    assert remote.exists(url)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, remote.NotFoundError, "does not exist"),
        (401, InputError, "refused"),
        (403, InputError, "refused"),
        (500, remote.UnreachableError, "HTTP status 500"),
    ],
)
def test_each_status_has_its_message(server: FileServer, status: int, error: type, message: str) -> None:
    server.status["/bank.h5"] = status
    with pytest.raises(error, match=rf"{server.address}/bank.h5.*{message}"):
        remote.local_path(f"{server.address}/bank.h5?token=secret")
    assert status == 404 or error is not remote.NotFoundError


def test_no_server_at_all(server: FileServer) -> None:
    with pytest.raises(remote.UnreachableError, match=r"127.0.0.1:9/bank.h5 cannot be read now"):
        remote.local_path("http://127.0.0.1:9/bank.h5")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://bucket/a.h5.*pip install"):
        remote.local_path("gs://bucket/a.h5")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_is_read_in_place(server: FileServer, monkeypatch: pytest.MonkeyPatch, ranges: bool) -> None:
    monkeypatch.setattr(reading, "_BLOCK_BYTES", 1000)
    server.ranges = ranges
    server.breaks = [300]
    with remote.RemoteFile(f"{server.address}/bank.h5") as file:
        assert file.size == len(CONTENT)
        file.seek(-5, 2)
        assert file.read() == CONTENT[-5:]
        file.seek(2500)
        assert file.read(700) == CONTENT[2500:3200]
        assert file.tell() == 3200
        assert file.seek(0, 1) == 3200
    if ranges:
        assert not cache.cache_folder().exists()
        asked = {wanted for method, _, wanted in server.requests if method == "GET"}
        assert asked == {"bytes=10000-10999", "bytes=2000-2999", "bytes=3000-3999"}


def test_a_reader_remembers_why_it_gave_up(server: FileServer) -> None:
    with remote.RemoteFile(f"{server.address}/bank.h5") as file:
        server.status["/bank.h5"] = 503
        with pytest.raises(remote.UnreachableError, match="503"):
            file.read(10)
        assert isinstance(file.failure, remote.UnreachableError)


def test_a_folder_is_fetched_as_a_folder(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("a.npy", "kitchen/b.npy", ".hidden/c.npy", "d.txt"):
        memory.pipe(f"/features/{name}", name.encode())
    folder = remote.local_path("memory://features", (".npy",))
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.npy")) == ["a.npy", "kitchen/b.npy"]
    assert (folder / "kitchen/b.npy").read_bytes() == b"kitchen/b.npy"
    assert remote.local_path("memory://features/", (".npy",)) == folder
    memory.pipe("/features/a.npy", b"new")
    assert (remote.local_path("memory://features", (".npy",)) / "a.npy").read_bytes() == b"new"
    with pytest.raises(InputError, match=r"memory://features.*folder; give a file"):
        remote.local_path("memory://features")
    with pytest.raises(InputError, match=r"memory://features.*\.mp4"):
        remote.list_files("memory://features", (".mp4",))


def test_an_index_page_lists_a_folder(server: FileServer) -> None:
    server.files["/videos/"] = b'<html><a href="my%20video.mp4">my video</a> <a href="notes.txt">notes</a></html>'
    found = remote.list_files(f"{server.address}/videos", (".mp4",))
    assert found == {"my video.mp4": f"{server.address}/videos/my%20video.mp4"}


def test_fingerprints_follow_the_content(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/a.mp4", b"one")
    before = remote.fingerprint("memory://a.mp4")
    assert before == remote.fingerprint(Path("memory://a.mp4"))
    memory.pipe("/a.mp4", b"two")
    assert remote.fingerprint("memory://a.mp4") != before
    assert remote.fingerprint("memory://b.mp4") == ""
    assert remote.size_of("memory://a.mp4") == 3


def test_a_full_disk_is_named(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CLEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write .*CLEP_CACHE=DIR"):
        remote.local_path(f"{server.address}/bank.h5")
