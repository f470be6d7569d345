"""Names of remote files: URLs, also where `pathlib` folded `s3://bucket/key` to `s3:/bucket/key`."""

import difflib
import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from clep.errors import InputError

SCHEMES = ("s3", "s3a", "hf", "https", "http", "gs", "gcs", "az", "abfs", "memory")
HTTP = ("http://", "https://")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+(.*)", re.DOTALL)


def is_remote(path: str | Path) -> bool:
    """Whether a path is the URL of a remote file, with `://` or folded to `:/` by `pathlib`."""
    found = _URL.fullmatch(os.fspath(path))
    return found is not None and found[1].lower() in SCHEMES


def url_of(path: str | Path) -> str:
    """Return a remote path as a URL with `://`, without a slash at its end."""
    found = _URL.fullmatch(os.fspath(path))
    assert found is not None
    return f"{found[1].lower()}://{found[2]}".rstrip("/")


def shown(path: str | Path) -> str:
    """Return a path for messages: a URL without its password and its query, which may hold a signature."""
    return re.sub(r"//[^/?#]*@", "//***@", url_of(path)).partition("?")[0] if is_remote(path) else str(path)


def join(base: str | Path, name: str) -> str:
    """Return the URL of `name`, a relative path, in the folder `base`; an absolute URL is returned as it is."""
    return url_of(name) if is_remote(name) else f"{url_of(base)}/{name}"


def parent(path: str | Path) -> str:
    """Return the URL of the folder that a remote file lies in."""
    return url_of(path).partition("?")[0].rpartition("/")[0]


def suffix(path: str | Path) -> str:
    """Return the suffix of a local or remote file in lower case; of a URL without its query."""
    return PurePosixPath(url_of(path).partition("?")[0] if is_remote(path) else path).suffix.lower()


def check_protocol(path: str | Path) -> Path:
    """Return a local path; `file://` is removed.

    Raises:
        InputError: it looks like a URL of an unknown protocol.
    """
    found = _URL.fullmatch(os.fspath(path))
    if found is None:
        return Path(path)
    if found[1].lower() == "file":
        return Path("/", found[2])
    if not Path(path).exists():
        near = difflib.get_close_matches(found[1].lower(), SCHEMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}://{found[2]}?" if near else "for a local file, give its path without '://'"
        raise InputError(f"{path}: the protocol {found[1]!r} is unknown, known are {', '.join(SCHEMES)}; {hint}")
    return Path(path)


def file_name(url: str) -> str:
    """Return a safe local name for a URL, with its suffix."""
    name = unquote(urlsplit(url).path if url.startswith(HTTP) else url.partition("://")[2]).rstrip("/")
    name = re.sub(r"[^\w.@+=-]+", "_", name.rpartition("/")[2]).lstrip(".") or "file"
    return name if len(name) <= 120 else short_digest(name) + PurePosixPath(name).suffix[:16]


def short_digest(text: str) -> str:
    """Return 16 hex digits for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
