"""The demo world in pixels: a small drawn Ego4D and Kinetics in their official forms, with real H.264 files."""

from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from clep.demo.ego4d_files import write_ego4d_json, write_narration_json
from clep.demo.encoding_threads import map_videos
from clep.demo.pixels.film import film
from clep.demo.video_script import DRAWN_NOUNS, DRAWN_VERBS, EgoFilm, Film, ego_films, kinetics_films, never_shown
from clep.demo.video_settings import VideoWorldSettings
from clep.demo.whole import WorldKind
from clep.demo.zeroshot_files import write_kinetics

_KIND = WorldKind("clep-demo-video-world", 1, ("ego4d", "kinetics"))


def make_video_world(
    out: str | Path, settings: VideoWorldSettings | None = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Make the demo world in pixels in the folder `out`, or reuse the one that is there.

    Under `out`: ego4d/{narration.json, ego4d.json, videos/<uid>.mp4}, kinetics/{val.csv,
    videos/<youtube_id>_<start:06d>_<end:06d>.mp4}, and world.json with settings, seed, their digest and the world's
    figures. Hands do 8 verbs to 12 things; the Kinetics classes are the pairs that no first-person video shows. The
    first six first-person videos differ in how they are recorded: 30 frames a second, 29.97, 25, a variable rate, a
    turned sensor, and stereo.

    world.json is written last: without it a world is not whole, and the same call continues it; videos that are there
    are kept. A whole world of these settings and this seed is reused. Annotations and pixels depend on settings and
    seed alone; what H.264 makes of them may differ from one version of PyAV to another.

    Returns:
        The figures of world.json (counts), and `folder`.

    Raises:
        InputError: the folder holds a whole world of other settings, or data that no demo world made, and nothing is
            touched; or PyAV or Pillow is missing.
    """
    made_of, folder = settings or VideoWorldSettings(), Path(out)
    return _KIND.make_or_reuse(folder, made_of.as_dict(), seed, partial(_make, folder, made_of, seed, progress))


def read_video_world(out: str | Path) -> dict[str, Any]:
    """Read world.json of a whole demo world in pixels.

    Raises:
        InputError: there is none, or it is of another format.
    """
    return _KIND.read(Path(out))


def _make(out: Path, settings: VideoWorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    ego4d, kinetics = (out / name for name in _KIND.folders)
    films, unseen = ego_films(settings, seed), never_shown(settings, seed)
    narrated = [(ego.film.name, ego.narration) for ego in films if ego.narration is not None]
    write_narration_json(ego4d / "narration.json", narrated)
    write_ego4d_json(ego4d / "ego4d.json", [ego.metadata for ego in films])
    write_kinetics(kinetics / "val.csv", unseen, settings.kinetics_clips, seed, settings.kinetics_clip_s)
    clips = kinetics_films(kinetics / "val.csv", seed)
    _film_missing(ego4d / "videos", [ego.film for ego in films], settings, "first-person videos", progress)
    _film_missing(kinetics / "videos", clips, settings, "Kinetics clips", progress)

    seconds = sum(one.duration_s for one in [*(ego.film for ego in films), *clips])
    return {
        "videos": len(films),
        "training_videos": settings.training_videos,
        "narrations": sum(_narrations(ego) for ego in films),
        "verbs": len(DRAWN_VERBS),
        "nouns": len(DRAWN_NOUNS),
        "shown_pairs": len({deed[:2] for ego in films for deed in ego.film.scene.deeds}),
        "never_shown_pairs": len(unseen),
        "kinetics_classes": len(unseen),
        "kinetics_clips": len(clips),
        "minutes": round(float(seconds) / 60, 1),
        "bytes": _KIND.bytes_in(out),
    }


def _film_missing(folder: Path, films: list[Film], settings: VideoWorldSettings, title: str, progress: bool) -> None:
    missing = [one for one in films if not (folder / f"{one.name}.mp4").exists()]

    def make(one: Film) -> int:
        path = folder / f"{one.name}.mp4"
        return film(path, one.scene, one.duration_s, one.recording, settings.width, settings.height)

    for _ in track(map_videos(make, missing), title, total=len(missing), disable=not progress):
        pass


def _narrations(ego: EgoFilm) -> int:
    passes = [value for key, value in (ego.narration or {}).items() if key.startswith("narration_pass")]
    return sum(len(one["narrations"]) for one in passes)
