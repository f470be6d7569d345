"""The demo world: a small simulated Ego4D, Kinetics and Charades-Ego in their official forms, under one folder."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clep.demo.ego4d_files import write_ego4d_json, write_narration_json
from clep.demo.ego_videos import EgoVideo, ego_videos, never_narrated
from clep.demo.feature_files import write_feature_files
from clep.demo.frozen_encoder import FrozenEncoder
from clep.demo.settings import WorldSettings
from clep.demo.simulate import simulate_ego_charades, simulate_kinetics
from clep.demo.zeroshot_files import charades_pairs, write_charades_classes, write_charades_csv, write_kinetics
from clep.errors import InputError
from clep.files import read_json, write_json
from clep.preprocess.alone import alone

_FORMAT, _VERSION = "clep-demo-world", 1
_FOLDERS = ("ego4d", "kinetics", "ego_charades")
_EXTRA_AXIS_EVERY = 25


def make_world(
    out: str | Path, settings: WorldSettings | None = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Make the demo world in the folder `out`, or reuse the one that is there.

    Under `out`: ego4d/{narration.json, ego4d.json, features/<uid>.pt}, kinetics/{val.csv, features/…},
    ego_charades/{CharadesEgo_v1_test.csv, CharadesEgo_v1_train.csv, Charades_v1_classes.txt, features/…}, and
    world.json with settings, seed, their digest and the world's figures. world.json is written last: without it a
    world is not whole, and the same call continues it. A whole world of these settings and this seed is reused.

    Returns:
        The figures of world.json (counts), and `folder`.

    Raises:
        InputError: the folder holds a whole world of other settings, or data that no demo world made; nothing is
            touched.
    """
    with alone(Path(out) / "world.json"):  # ranks that start together ask for it at once
        return _make_or_reuse(Path(out), settings or WorldSettings(), seed, progress)


def _make_or_reuse(out: Path, settings: WorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    digest = _digest(settings, seed)
    if (out / "world.json").exists():
        world = read_world(out)
        if world["digest"] != digest:
            raise InputError(
                f"{out / 'world.json'} describes a demo world of other settings or another seed (seed {world['seed']}, "
                f"asked for {seed}); choose another folder, or delete {out}"
            )
        return {**world["figures"], "folder": str(out)}
    _claim(out, digest)
    figures = _make(out, settings, seed, progress)
    write_json(
        out / "world.json",
        {
            "format": _FORMAT,
            "version": _VERSION,
            "seed": seed,
            "settings": settings.as_dict(),
            "digest": digest,
            "figures": figures,
        },
    )
    (out / "world.part.json").unlink()
    return {**figures, "folder": str(out)}


def read_world(out: str | Path) -> dict[str, Any]:
    """Read world.json of a whole demo world.

    Raises:
        InputError: there is none, or it is of another format.
    """
    path = Path(out) / "world.json"
    world = read_json(path)
    if not isinstance(world, dict) or world.get("format") != _FORMAT or world.get("version") != _VERSION:
        raise InputError(f"{path} is not a demo world of version {_VERSION}; make one in another folder")
    return world


def _digest(settings: WorldSettings, seed: int) -> str:
    text = json.dumps([_FORMAT, _VERSION, seed, settings.as_dict()], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _claim(out: Path, digest: str) -> None:
    """Mark the folder as a world in the making; start again where one of other settings was left half-made."""
    marker = out / "world.part.json"
    if marker.exists():
        if read_json(marker).get("digest") == digest:
            return
        for name in _FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
    else:
        foreign = [name for name in _FOLDERS if (out / name).exists() and any((out / name).iterdir())]
        if foreign:
            raise InputError(
                f"{out / foreign[0]} holds data that no demo world made; choose an empty folder for the demo world"
            )
    write_json(marker, {"digest": digest})


def _make(out: Path, settings: WorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    ego4d, kinetics, charades = (out / name for name in _FOLDERS)
    videos, unseen = ego_videos(settings, seed), never_narrated(settings, seed)
    narrated = [(video.uid, video.narration) for video in videos if video.narration is not None]
    write_narration_json(ego4d / "narration.json", narrated)
    write_ego4d_json(ego4d / "ego4d.json", [video.metadata for video in videos])
    encoder = FrozenEncoder(seed, settings.encoder)
    write_feature_files(
        ego4d / "features",
        encoder,
        _ego_rows(encoder, videos),
        settings.feature_dtype,
        "features of narrated videos",
        progress,
    )

    same: dict[str, Any] = {
        "seed": seed,
        "dtype": settings.feature_dtype,
        "settings": settings.encoder,
        "progress": progress,
    }
    clips = write_kinetics(kinetics / "val.csv", unseen, settings.kinetics_clips, seed)
    simulate_kinetics(kinetics / "val.csv", kinetics / "features", **same)

    pairs, classes_txt = charades_pairs(unseen, settings.charades_classes, seed), charades / "Charades_v1_classes.txt"
    write_charades_classes(classes_txt, pairs)
    write_charades_csv(charades / "CharadesEgo_v1_train.csv", pairs, scripts=4, seed=seed)
    filmed = write_charades_csv(charades / "CharadesEgo_v1_test.csv", pairs, settings.charades_scripts, seed)
    simulate_ego_charades(charades / "CharadesEgo_v1_test.csv", classes_txt, charades / "features", **same)

    texts = [text for _, entry in narrated for text in _texts(entry)]
    return {
        "videos": len(videos),
        "training_videos": settings.training_videos,
        "hours": round(sum(video.duration_s for video in videos) / 3600, 2),
        "narrations": len(texts),
        "distinct_texts": len(set(texts)),
        "narrated_pairs": len(set().union(*(video.pairs for video in videos))),
        "never_narrated_pairs": len(unseen),
        "kinetics_classes": len(unseen),
        "kinetics_clips": clips,
        "ego_charades_classes": len(pairs),
        "ego_charades_never_narrated": len(set(pairs) & set(unseen)),
        "ego_charades_videos": filmed,
        "bytes": sum(path.stat().st_size for name in _FOLDERS for path in (out / name).rglob("*") if path.is_file()),
    }


def _ego_rows(
    encoder: FrozenEncoder, videos: list[EgoVideo]
) -> Iterator[tuple[str, Callable[[], Float[Tensor, "..."]]]]:
    def rows(video: EgoVideo, extra_axis: bool) -> Float[Tensor, "..."]:
        made = encoder.encode(video.uid, video.duration_s, video.performances, video.place)
        return made[:, None] if extra_axis else made

    for number, video in enumerate(videos):
        yield video.uid, partial(rows, video, number % _EXTRA_AXIS_EVERY == 1)


def _texts(entry: dict[str, Any]) -> list[str]:
    passes = [value for key, value in entry.items() if key.startswith("narration_pass")]
    return [narration["narration_text"] for one in passes for narration in one["narrations"]]
