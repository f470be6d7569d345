"""Worlds that are whole or continued: a folder of a world is claimed, made, and reused by the next call."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.files import read_json, write_json


@dataclass(frozen=True)
class WorldKind:
    """A kind of world.

    Attributes:
        format: what world.json calls it.
        version: of what is made; worlds of another version are not reused.
        folders: what a world of this kind has in its folder, besides world.json.
    """

    format: str
    version: int
    folders: tuple[str, ...]

    def make_or_reuse(
        self, out: Path, settings: dict[str, Any], seed: int, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Make a world in `out`, or reuse the whole one that is there.

        world.json, with settings, seed, their digest and the world's figures, is written last: without it a world is
        not whole, and the same call continues it. Processes that ask at once wait for the first.

        Args:
            out: the world's folder.
            settings: what it is made of, as plain JSON values.
            seed: of everything drawn.
            make: makes the folders' contents, keeping the files that are there, and gives the figures.

        Returns:
            The figures of world.json, and `folder`.

        Raises:
            InputError: the folder holds a whole world of other settings, or data that no demo world made; nothing is
                touched.
        """
        with file_lock(out / "world.json"):
            digest = self._digest(settings, seed)
            if (out / "world.json").exists():
                world = self.read(out)
                if world["digest"] != digest:
                    raise InputError(
                        f"{out / 'world.json'} describes a demo world of other settings or another seed (seed "
                        f"{world['seed']}, asked for {seed}); choose another folder, or delete {out}"
                    )
                return {**world["figures"], "folder": str(out)}
            self._claim(out, digest)
            figures = make()
            described = {"seed": seed, "settings": settings, "digest": digest, "figures": figures}
            write_json(out / "world.json", {"format": self.format, "version": self.version, **described})
            (out / "world.part.json").unlink()
            return {**figures, "folder": str(out)}

    def read(self, out: Path) -> dict[str, Any]:
        """Read world.json of a whole world of this kind.

        Raises:
            InputError: there is none, or it is of another format.
        """
        path = out / "world.json"
        world = read_json(path)
        if not isinstance(world, dict) or world.get("format") != self.format or world.get("version") != self.version:
            raise InputError(f"{path} is not a {self.format} of version {self.version}; make one in another folder")
        return world

    def bytes_in(self, out: Path) -> int:
        """Give the size of all files of the world's folders, in bytes."""
        return sum(file.stat().st_size for name in self.folders for file in (out / name).rglob("*") if file.is_file())

    def _digest(self, settings: dict[str, Any], seed: int) -> str:
        text = json.dumps([self.format, self.version, seed, settings], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _claim(self, out: Path, digest: str) -> None:
        """Mark the folder as a world in the making; start again where one of other settings was left half-made."""
        marker = out / "world.part.json"
        if marker.exists():
            if read_json(marker).get("digest") == digest:
                return
            for name in self.folders:
                shutil.rmtree(out / name, ignore_errors=True)
        else:
            foreign = [name for name in self.folders if (out / name).exists() and any((out / name).iterdir())]
            if foreign:
                raise InputError(
                    f"{out / foreign[0]} holds data that no demo world made; choose an empty folder for the demo world"
                )
        write_json(marker, {"digest": digest})
