"""Query a remote store through fsspec: size, version and listing of its files; its errors in one sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from clep.errors import InputError
from clep.remote.address import HTTP, is_remote, short_digest, shown, suffix, url_of

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further attempt at a request that failed."""
_VERSION_KEYS = (
    *("ETag", "etag", "blob_id", "md5Hash", "generation", "Content-MD5", "Digest"),
    *("Last-Modified", "LastModified", "last_modified", "mtime", "created"),
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")


class NotFoundError(InputError):
    """There is no such remote file, folder or bucket."""


class UnreachableError(InputError):
    """A server does not answer, breaks off, or changes a file while it is read; trying again may help."""


@dataclass(frozen=True)
class RemoteInfo:
    """Facts about a file, as its store reports them.

    Attributes:
        url: its URL.
        size: bytes; None where the server does not say.
        version: ETag, or what the store has instead; "" where it has nothing.
        is_folder: whether it is a folder (a prefix of names).
    """

    url: str
    size: int | None
    version: str
    is_folder: bool = False

    @property
    def fingerprint(self) -> str:
        """Size and a digest of the version."""
        return f"{self.size}-{short_digest(self.version)}"


def stat(path: str | Path, fresh: bool = True) -> RemoteInfo:
    """Ask a store about a file or folder.

    Args:
        path: the URL.
        fresh: ask again although the store's listing is in memory.

    Raises:
        InputError: there is none, the credentials are missing or refused, the store cannot be reached, or the package
            for its protocol is not installed.
    """
    url = url_of(path)
    with explained(url):
        filesystem, inside = filesystem_of(url)
        if fresh:
            filesystem.invalidate_cache(inside)
        try:
            found = filesystem.info(inside)
        except FileNotFoundError:
            if not url.startswith(HTTP) or suffix(url):
                raise
            found = filesystem.info(f"{inside}/") | {"type": "directory"}  # an index page
    version = next((str(found[key]) for key in _VERSION_KEYS if found.get(key)), "")
    size = found.get("size")
    return RemoteInfo(url, None if size is None else int(size), version, found.get("type") == "directory")


def fingerprint(path: str | Path) -> str:
    """Return size and version of a remote file as a short text; "" where it does not exist.

    Raises:
        InputError: the store refuses to answer or cannot be reached.
    """
    try:
        return stat(path, fresh=False).fingerprint
    except NotFoundError:
        return ""


def size_of(path: str | Path) -> int:
    """Return the bytes of a local or remote file; 0 where it is missing or does not say."""
    if not is_remote(path):
        return Path(path).stat().st_size if Path(path).exists() else 0
    with suppress(InputError):
        return stat(path, fresh=False).size or 0
    return 0


def list_files(path: str | Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Return the files in and below a remote folder that end in one of these suffixes: URL by relative path, sorted.

    Over HTTP the server's index page is read. Hidden files and folders are ignored.

    Raises:
        InputError: the folder does not exist or has no such file, or the store does not answer.
    """
    url = url_of(path)
    with explained(url):
        filesystem, inside = filesystem_of(f"{url}/" if url.startswith(HTTP) else url)
        filesystem.invalidate_cache()
        found = sorted(filesystem.find(inside))
    start = f"{inside.rstrip('/')}/"
    files: dict[str, str] = {}
    for name in found:
        relative = name.removeprefix(start)
        if relative != name and suffix(relative) in suffixes:
            shown_name = unquote(relative) if url.startswith(HTTP) else relative
            if not any(part.startswith(".") for part in shown_name.split("/")):
                files[shown_name] = f"{url}/{relative}"
    if not files:
        raise NotFoundError(f"{shown(url)} holds no file that ends in {', '.join(suffixes)}; check the address")
    return files


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        ImportError: the package of the protocol is not installed.
    """
    import fsspec

    options: dict[str, Any] = {}
    if url.startswith(HTTP):
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options["client_kwargs"] = {"trust_env": True, "timeout": limits}
    filesystem, inside = fsspec.core.url_to_fs(url, **options)
    return filesystem, str(inside)


class NoRangesError(Exception):
    """The server gives files only whole."""


def read_range(content: Any, start: int, count: int) -> bytes:
    """Read a range of an open file of fsspec.

    Raises:
        NoRangesError: the server gives files only whole.
        ConnectionError: it sent nothing.
    """
    try:
        content.seek(start)
        block = content.read(count)
    except ValueError as error:  # fsspec's error of a server without ranges
        raise NoRangesError from error
    if not block:
        raise ConnectionError(f"it ended after {start:,} bytes")
    return bytes(block)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise the exceptions of a store in the block as InputErrors."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise explain(url, error) from error


def explain(url: str, error: BaseException) -> InputError:
    """Return the InputError for an exception of a store: what is wrong, and the remedy."""
    if isinstance(error, InputError):
        return error
    chain, name = _chain(error), shown(url)
    scheme = url.partition("://")[0]
    if any(isinstance(one, ImportError) for one in chain):
        return InputError(f"{name}: reading {scheme}:// needs a package ({error}): pip install 'clep[remote]'")
    names = {type(one).__name__ for one in chain}
    statuses = {status for one in chain if (status := _status(one)) is not None}
    if names & set(_NO_CREDENTIALS):
        return InputError(f"{name}: there are no credentials. {_credentials(scheme)}")
    if "RepositoryNotFoundError" in names and "GatedRepoError" not in names:  # status 401, also where there is none
        return NotFoundError(f"{name} does not exist; check the address. If it is private: {_credentials(scheme)}")
    if statuses & {401, 403} or any(isinstance(one, PermissionError) for one in chain):
        return InputError(f"{name} is refused with these credentials, or without them. {_credentials(scheme)}")
    busy = {status for status in statuses if status == 429 or status >= 500}
    reason = (str(error) or type(error).__name__).splitlines()[0][:300].replace(url, name)
    lost = next((one for one in chain if _is_connection_error(one)), None)
    if busy or lost is not None:
        why = f"HTTP status {min(busy)}" if busy else f"{type(lost).__name__}: {lost}"[:300].replace(url, name)
        return UnreachableError(f"{name} cannot be read now ({why}); check the address and the network, and run again")
    if 404 in statuses or 410 in statuses or any(isinstance(one, FileNotFoundError) for one in chain):
        bucket = _missing_bucket(url)
        what = "does not exist; check the address" if bucket is None else f"is in no bucket: there is no {bucket!r}"
        return NotFoundError(f"{name} {what}")
    if isinstance(error, OSError | TimeoutError):
        return UnreachableError(f"{name} cannot be read now ({reason}); check the address and the network, run again")
    return InputError(f"{name} cannot be read ({type(error).__name__}: {reason}); check the address")


def _missing_bucket(url: str) -> str | None:
    """Return the bucket of a URL if it is what does not exist."""
    if not url.startswith(("s3", "gs", "gcs")):
        return None
    try:
        filesystem, inside = filesystem_of(url)
        bucket = inside.partition("/")[0]
        return None if filesystem.exists(bucket) else bucket
    except Exception:
        return None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an exception of aiohttp or of huggingface_hub."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _is_connection_error(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    parents = {f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in type(error).__mro__}
    known = {
        *("aiohttp.ClientConnectionError", "aiohttp.ClientPayloadError", "fsspec.FSTimeoutError"),
        *("botocore.HTTPClientError", "botocore.ConnectionError", "httpx.TransportError", "httpx2.TransportError"),
    }
    return bool(parents & known)


def _credentials(scheme: str) -> str:
    if scheme in ("s3", "s3a"):
        return (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; for a public bucket FSSPEC_S3_ANON=true; "
            "for a store of your own AWS_ENDPOINT_URL"
        )
    if scheme == "hf":
        return "Log in with `hf auth login`, or set HF_TOKEN; a gated repository needs its terms accepted"
    return "Check the address and your rights"
