"""Files behind URLs (`s3://`, `hf://`, `https://`, …) through fsspec: fetched once into a cache, or read in place.

Banks and tables are fetched whole (`local_path`), because they are memory-mapped or parsed many times; videos are read
in place with range requests (`RemoteFile`). The version of a remote file is its ETag, or what its store has instead.
"""

from clep.remote.address import is_remote, join, parent, shown, suffix, url_of
from clep.remote.cache import cache_folder, exists, local_path, user_cache
from clep.remote.reading import RemoteFile
from clep.remote.store import NotFoundError, UnreachableError, fingerprint, list_files, size_of, stat

__all__ = [
    "NotFoundError",
    "RemoteFile",
    "UnreachableError",
    "cache_folder",
    "exists",
    "fingerprint",
    "is_remote",
    "join",
    "list_files",
    "local_path",
    "parent",
    "shown",
    "size_of",
    "stat",
    "suffix",
    "url_of",
    "user_cache",
]
