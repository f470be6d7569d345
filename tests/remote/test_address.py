"""Names of remote files: what is one, its parts, and what messages and caches show of it."""

from pathlib import Path

import pytest

from clep.errors import InputError
from clep.remote import address


@pytest.mark.parametrize("url", ["s3://b/k.h5", "HTTPS://host/a", "hf://datasets/o/n/f", "memory://x", "gs:/b/k"])
def test_urls_are_remote_also_when_a_path_folded_them(url: str) -> None:
    assert address.is_remote(url)
    assert address.is_remote(Path(url))
    assert address.url_of(Path(url)) == address.url_of(url)


@pytest.mark.parametrize("path", ["a.h5", "/s3/b", "C:/data", "file:///a", "ftp://host/a", "s3", "s3:", "a/s3://b", ""])
def test_other_paths_are_not(path: str) -> None:
    assert not address.is_remote(path)
    assert address.shown(path) == path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/a.h5?signature=secret", "https://***@host/a.h5"),
        ("https://user:se@cret@host/a.h5", "https://***@host/a.h5"),
        ("https://secret@host", "https://***@host"),
        ("https://host/a.h5?user=x@secret", "https://host/a.h5"),
        ("hf://datasets/o/n@main/f.h5", "hf://datasets/o/n@main/f.h5"),
        ("s3:/bucket/key@2/", "s3://bucket/key@2"),
    ],
)
def test_messages_show_no_secret(url: str, shown: str) -> None:
    assert address.shown(url) == shown


def test_parts_of_a_url() -> None:
    assert address.join("s3:/b/folder/", "x/y.h5") == "s3://b/folder/x/y.h5"
    assert address.join("s3://b", "https://h/z") == "https://h/z"
    assert address.parent("https://h/a/b.h5?signature=a/b") == "https://h/a"
    assert address.suffix("https://h/a/B.H5?signature=x.csv") == address.suffix("folder/B.h5") == ".h5"
    assert address.suffix("s3://bucket.x/folder/name") == ""


def test_an_unknown_protocol_is_named_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.check_protocol("file:///data/a.h5") == Path("/data/a.h5")
    assert address.check_protocol("data/a.h5") == Path("data/a.h5")
    with pytest.raises(InputError, match=r"^htps://h/a: the protocol 'htps' is unknown.*did you mean https://h/a\?"):
        address.check_protocol("htps://h/a")
    with pytest.raises(InputError, match=r"'zzzzzz' is unknown.*for a local file"):
        address.check_protocol("zzzzzz://h/a")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:").mkdir()
    (tmp_path / "odd:" / "a.h5").touch()
    assert address.check_protocol("odd:/a.h5") == Path("odd:/a.h5"), "a folder may have such a name"


@pytest.mark.parametrize(
    "url",
    ["https://h/a%2F..%2F..%2Fetc", "https://h/..", "s3://b/.hidden", "s3://b/é ü.h5", "https://h/", "s3://b/a\0b"],
)
def test_local_names_stay_in_their_folder(url: str, tmp_path: Path) -> None:
    name = address.file_name(url)
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not name.startswith(".")


def test_long_names_are_shortened_and_keep_their_suffix() -> None:
    one, other = (address.file_name(f"s3://b/{'x' * 300}{end}.h5") for end in "ab")
    assert one != other
    assert len(one) < 40
    assert one.endswith(".h5")
    assert address.short_digest("a") == address.short_digest("a") != address.short_digest("b")
