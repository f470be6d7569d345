"""The demo world: a small simulated Ego4D, Kinetics and Charades-Ego in their official forms, under one folder."""

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
from clep.demo.whole import WorldKind
from clep.demo.zeroshot_files import charades_pairs, write_charades_classes, write_charades_csv, write_kinetics

_KIND = WorldKind("clep-demo-world", 1, ("ego4d", "kinetics", "ego_charades"))
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
    settings, out = settings or WorldSettings(), Path(out)
    return _KIND.make_or_reuse(out, settings.as_dict(), seed, lambda: _make(out, settings, seed, progress))


def read_world(out: str | Path) -> dict[str, Any]:
    """Read world.json of a whole demo world.

    Raises:
        InputError: there is none, or it is of another format.
    """
    return _KIND.read(Path(out))


def _make(out: Path, settings: WorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    ego4d, kinetics, charades = (out / name for name in _KIND.folders)
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
        "bytes": _KIND.bytes_in(out),
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
