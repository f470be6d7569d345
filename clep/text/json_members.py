"""Read a large JSON object member by member, so that only one member is in memory at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clep.errors import InputError

_CHUNK = 1 << 22
# A decoder that stops this far before the end of what was read has met an error, not the end.
_MARGIN = 1 << 16
_BLANK = " \t\n\r"


def json_members(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the object in a JSON file, in its order.

    Raises:
        InputError: the file is missing, not utf-8, holds something else than an object, or breaks off; the message
            names the member after which it does.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Reader(path, file).members()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not utf-8 text ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, path: Path, file: Any):
        self.path, self.file = path, file
        self.text, self.position, self.dropped = "", 0, 0
        self.last = ""
        self.decoder = json.JSONDecoder()

    def members(self) -> Iterator[tuple[str, Any]]:
        if self.peek() != "{":
            raise InputError(f"{self.path} holds no JSON object at its top; is it the right file?")
        self.position += 1
        if self.peek() == "}":
            self.position += 1
        else:
            while True:
                key = self.value()
                if not isinstance(key, str):
                    raise self.broken(f"the key {key!r} is not a string")
                self.expect(":")
                value = self.value()
                self.last = key
                yield key, value
                if self.peek() == "}":
                    self.position += 1
                    break
                self.expect(",")
        if self.peek():
            raise self.broken("there is more after the end of the object")

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, self.position = self.decoder.raw_decode(self.text, self.position)
                return value
            except json.JSONDecodeError as error:
                if error.pos < len(self.text) - _MARGIN or not self.more():
                    raise self.broken(error.msg) from error

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
        # At least as much again as is kept, or a long member would be scanned once for every chunk.
        chunk = self.file.read(max(_CHUNK, len(self.text) - self.position))
        self.text = self.text[self.position :] + chunk
        self.dropped += self.position
        self.position = 0
        return bool(chunk)

    def broken(self, reason: str) -> InputError:
        where = f"after the member {self.last!r}" if self.last else "in the first member"
        return InputError(
            f"{self.path} is not valid JSON {where}, near character {self.dropped + self.position:,} ({reason}); "
            f"it may be cut off: fetch it again"
        )
