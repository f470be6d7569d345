"""Iterate over the members of a JSON object that is larger than memory.

Own code instead of `ijson`, because `ijson` 3.6 needs memory quadratic in the nesting depth (100,000 levels get the
process killed), silently keeps the last of two equal keys, and replaces broken characters by "?".
"""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from clep.errors import InputError
from clep.files import check_characters, int64, open_input, unique_keys

_CHUNK = 1 << 22
# A decoder error this far before the end of the text read so far is an error of the file, not a missing rest.
_MARGIN = 1 << 16
_BLANK = " \t\n\r"
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def json_members(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield the (key, value) pairs of the object in a JSON file, in order.

    Raises:
        InputError: the file is missing, not a regular file, not UTF-8, not a JSON object, or truncated; has duplicate
            keys in one object, is nested too deeply, or holds an integer beyond 64 bits, the character NUL or a lone
            surrogate. The message names the last valid member.
    """
    path = Path(path)
    try:
        with open_input(path) as binary, TextIOWrapper(binary, encoding="utf-8-sig") as file:
            yield from _Reader(path, file).members()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, path: Path, file: Any):
        self.path, self.file = path, file
        self.text, self.position, self.dropped = "", 0, 0
        self.last = ""
        self.decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_int=int64)

    def members(self) -> Iterator[tuple[str, Any]]:
        if self.peek() != "{":
            raise InputError(f"{self.path} is not a JSON object; check that it is the right file")
        self.position += 1
        if self.peek() == "}":
            self.position += 1
        else:
            seen: set[str] = set()
            while True:
                key = self.value()
                if not isinstance(key, str):
                    raise self.broken(f"the key {str(key)[:100]} is not a string")
                if key in seen:
                    raise self.broken(f"duplicate key {key[:100]!r}")
                seen.add(key)
                self.expect(":")
                value = self.value()
                self.last = key
                yield key, value
                if self.peek() == "}":
                    self.position += 1
                    break
                self.expect(",")
        if self.peek():
            raise self.broken("text after the end of the object")

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
                if _SUSPECT.search(self.text, self.position, end):
                    check_characters(value)
                self.position = end
                return value
            except json.JSONDecodeError as error:
                if error.pos < len(self.text) - _MARGIN or not self.more():
                    raise self.broken(error.msg) from error
            except RecursionError as error:
                raise self.broken("nested too deeply") from error
            except ValueError as error:  # from the checks above
                raise self.broken(str(error)) from error

    def peek(self) -> str:
        """Skip blanks and return the next character, "" at the end of the file."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in _BLANK:
                self.position += 1
            if self.position < len(self.text) or not self.more():
                return self.text[self.position : self.position + 1]

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.broken(f"expected {character!r}")
        self.position += 1

    def more(self) -> bool:
        # Double the text that is kept, or a long member would be scanned again for every chunk.
        chunk = self.file.read(max(_CHUNK, len(self.text) - self.position))
        self.text = self.text[self.position :] + chunk
        self.dropped += self.position
        self.position = 0
        return bool(chunk)

    def broken(self, reason: str) -> InputError:
        where = f"after the member {self.last[:100]!r}" if self.last else "in the first member"
        return InputError(
            f"{self.path} is not valid JSON {where}, near character {self.dropped + self.position:,} ({reason}); "
            f"it may be cut off: fetch it again"
        )
