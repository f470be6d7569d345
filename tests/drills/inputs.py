"""Mutate small films and tables of others: `python -m tests.drills.inputs minutes=30`.

Films of seven containers are cut, joined, zeroed, flipped, and written again with other stamps. A film must be read to
its end or refused with an `InputError` that names it, within a limit of time and memory. Where the `ffmpeg` command is
installed and decodes the file, clep must read about as many frames or more (its decoder may be newer and repair more),
and never more than the file was made of. Tables are given other quotes, line ends,
byte order marks, cells and bytes; each reader must return or refuse the file by name.

A file that crashes, hangs, or differs is kept in the folder `found`, with its reason beside it.

"""

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import torch

from benchmarks.report import RESULTS, read_settings
from clep.datasets.ava import read_annotations
from clep.datasets.captions import read_captions
from clep.datasets.ego4d import read_ego4d
from clep.datasets.egoclip import read_egoclip
from clep.datasets.epic_kitchens import read_epic_kitchens
from clep.datasets.kinetics import read_kinetics
from clep.extraction.listing import list_videos
from clep.text.taxonomy import read_groups
from clep.video import DenseWindows, VideoReader
from tests.drills.reading import Reading, read_in_a_process
from tests.drills.records import add_record, code_digest
from tests.video.made_videos import numbered, regular, write_video

CODE = ("files.py", "tables.py", "video", "datasets", "text/taxonomy.py", "extraction/listing.py")
LIMIT_S = 20
CONTAINERS = ("mp4", "mkv", "avi", "ts", "flv", "mpg", "mov")
MOST_FRAMES = 100
SLACK_FRAMES, SLACK_SHARE = 8, 0.15


@dataclass
class Settings:
    """Of this drill; `found` is the folder of what crashed, hung or differed."""

    minutes: float = 30.0
    seed: int = field(default_factory=lambda: time.time_ns() % 2**32)
    found: str = str(Path(tempfile.gettempdir()) / "clep-found")
    out: str = str(RESULTS / "inputs.json")


def make_films(folder: Path) -> list[Path]:
    """Write a film of 40 to 100 frames in each container."""
    films = []
    for number, suffix in enumerate(CONTAINERS):
        frames = 40 + 10 * number
        codec = "mpeg2video" if suffix == "mpg" else "mpeg4" if suffix == "avi" else "libx264"
        pictures = [numbered(frame, 96, 64) for frame in range(frames)]
        path = folder / f"film.{suffix}"
        write_video(path, regular(frames, 25), codec, 25, pictures=pictures, audio_s=1.0 if suffix == "mkv" else 0.0)
        films.append(path)
    return films


def mutate_film(film: Path, out: Path, draw: random.Random) -> str:
    """Write a damaged film; return what was done."""
    whole = film.read_bytes()
    kind = draw.choice(("cut", "zero", "flip", "flips", "join", "join_cut", "insert", "stamps", "drop"))
    content, at = bytearray(whole), draw.randrange(len(whole))
    if kind == "cut":
        content = content[:at]
    elif kind == "zero":
        size = draw.choice((16, 512, 4096))
        content[at : at + size] = bytes(len(content[at : at + size]))
    elif kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else draw.randrange(2, 40)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "join":
        content += whole
    elif kind == "join_cut":
        content = content[at:] + content
    elif kind == "insert":
        content[at:at] = draw.randbytes(draw.choice((1, 188, 4096)))
    else:
        return _remux(film, out, draw, kind)
    out.write_bytes(content)
    return f"{kind} at {at}"


def _remux(film: Path, out: Path, draw: random.Random, kind: str) -> str:
    """Write the packets again, with stamps moved from one packet on, or without some packets."""
    at, jump = draw.randrange(1, 30), draw.choice((-1.0, -0.3, 0.3, 2.0, 30.0, 4000.0))
    with av.open(str(film)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if packet.dts is None or (kind == "drop" and number >= at and draw.random() < 0.2):
                continue
            if kind == "stamps" and number >= at:
                shift = round(Fraction(jump).limit_denominator(10) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copied
            try:
                target.mux(packet)
            except (av.FFmpegError, ValueError):
                continue  # the muxer refuses stamps that go back
    return f"{kind} from packet {at} by {jump} s"


def read_film(path: Path) -> tuple[int, float]:
    """Return the number of frames and the seconds of a film."""
    reader = VideoReader(path, 16, threads=1)
    for _ in reader.clips(DenseWindows(32, 16, 30.0), 2):
        pass
    return reader.decoded_frames, reader.duration_s


def frames_of_ffmpeg(path: Path) -> int | None:
    """Return how many frames the ffmpeg command decodes; None where it is not installed or gives up."""
    if shutil.which("ffmpeg") is None:
        return None
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path), "-an", "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-progress", "-", "-f", "null", "-"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    counts = re.findall(r"^frame=(\d+)", done.stdout, re.MULTILINE)
    return int(counts[-1]) if counts and done.returncode == 0 else None


TABLES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "kinetics.csv": (
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        + "".join(f"washing dishes,id{i:09d},{i},{i + 10},val,0\n" for i in range(20)),
        read_kinetics,
    ),
    "captions.tsv": ("".join(f"a caption {i}\thttp://x/{i}\n" for i in range(20)), read_captions),
    "ava.csv": ("".join(f"v{i % 3},{900 + i},0.1,0.1,0.5,0.9,{1 + i % 60},{i}\n" for i in range(20)), read_annotations),
    "epic.csv": (
        "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration,verb_class,noun_class,"
        "all_noun_classes\n"
        + "".join(
            f"P01_01_{i},P01,P01_01,00:00:{i:02d}.50,00:00:{i + 2:02d}.10,open door,3,4,[4]\n" for i in range(20)
        ),
        lambda path: read_epic_kitchens(path, None),
    ),
    "egoclip.csv": (
        "video_uid\tclip_start\tclip_end\tclip_text\ttag_verb\ttag_noun\n"
        + "".join(f"v{i % 3}\t{i}.5\t{i + 1}.5\t#C C opens a door {i}\t[3]\t[4, 5]\n" for i in range(20)),
        lambda path: read_egoclip(path, None),
    ),
    "groups.csv": (
        "id,label,group\n" + "".join(f"{i},open_{i},\"['open', 'x{i}']\"\n" for i in range(20)),
        read_groups,
    ),
    "videos.csv": ("id,path\n" + "".join(f"v{i},film{i}.mp4\n" for i in range(20)), list_videos),
    "narration.json": (
        json.dumps(
            {
                f"v{i}": {
                    "status": "complete",
                    "narration_pass_1": {
                        "narrations": [{"timestamp_sec": 1.0 * i, "narration_text": f"#C C opens {i}"}],
                        "summaries": [],
                    },
                }
                for i in range(20)
            }
        ),
        lambda path: read_ego4d(path, None),
    ),
}


def without_value(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a reader that returns nothing: of a table, only how reading ends counts."""

    def reading(path: Path) -> None:
        read(path)

    return reading


def mutate_table(text: str, draw: random.Random) -> tuple[str, bytes]:
    """Return what was done, and the damaged table."""
    kind = draw.choice(
        ("quotes", "crlf", "bom", "nul", "cut", "flip", "cells", "utf16", "long", "header", "blank", "twice", "odd")
    )
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    if kind == "quotes":
        lines[at] = lines[at].replace(draw.choice((",", "\t", "a")), '"', 1)
    elif kind == "crlf":
        return kind, text.replace("\n", draw.choice(("\r\n", "\r", "\n\n"))).encode()
    elif kind == "bom":
        return kind, b"\xef\xbb\xbf" + text.encode()
    elif kind == "nul":
        lines[at] = lines[at].replace("i", "\0", 1)
    elif kind == "cells":
        lines[at] = lines[at].rstrip("\n") + draw.choice((",", ",,,", "\t")) * draw.choice((1, 3, 1000)) + "\n"
    elif kind == "utf16":
        return kind, text.encode("utf-16")
    elif kind == "long":
        lines[at] = lines[at].rstrip("\n") + "x" * 200_000 + "\n"
    elif kind == "header":
        lines = lines[1:]
    elif kind == "blank":
        lines.insert(at, draw.choice(("\n", "  \n", ",\n", "# comment\n")))
    elif kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "odd":
        lines[at] = lines[at].replace("1", draw.choice(("-1", "1e400", "nan", "١", "0x1", "1_0", "𝟏")), 1)
    content = bytearray("".join(lines).encode())
    if kind == "cut":
        content = content[: draw.randrange(len(content))]
    elif kind == "flip":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return kind, bytes(content)


def differs(result: Reading, frames: int | None) -> str | None:
    """Say how the frames that were read differ from those of ffmpeg; None where they do not."""
    if result.value is None:
        return None
    ours = result.value[0]
    if ours > 2 * MOST_FRAMES:
        return f"{ours} frames of a film of at most {2 * MOST_FRAMES}"
    if frames is not None and ours < frames - SLACK_FRAMES - SLACK_SHARE * frames:
        return f"{ours} frames, ffmpeg decodes {frames}"
    return None


def main(arguments: list[str]) -> int:
    """Mutate until the time is over, add a record, and return 1 if anything was found."""
    settings = read_settings(Settings, arguments)
    torch.set_num_threads(1)
    draw, ends = random.Random(settings.seed), time.monotonic() + 60 * settings.minutes
    counts: dict[str, Counter[str]] = {"films": Counter(), "tables": Counter()}
    found: list[str] = []
    kept = Path(settings.found)
    with tempfile.TemporaryDirectory(prefix="clep-inputs-") as folder:
        films = make_films(Path(folder))
        number = 0
        while time.monotonic() < ends:
            number += 1
            if number % 2:
                film = draw.choice(films)
                path = Path(folder) / f"mutant{number}{film.suffix}"
                what = f"{film.suffix}: {mutate_film(film, path, draw)}"
                result, kind = read_in_a_process(read_film, path, LIMIT_S), "films"
                difference = differs(result, frames_of_ffmpeg(path) if result.value else None)
            else:
                name = draw.choice(sorted(TABLES))
                text, read = TABLES[name]
                what, content = mutate_table(text, draw)
                what, path = f"{name}: {what}", Path(folder) / f"mutant{number}{Path(name).suffix}"
                path.write_bytes(content)
                result, kind, difference = read_in_a_process(without_value(read), path, LIMIT_S), "tables", None
            counts[kind]["DIFFERS" if difference else result.outcome] += 1
            if difference or result.outcome not in ("read", "refused"):
                reason = f"{what}: {difference or result.outcome}"
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, kept / path.name)
                (kept / f"{path.name}.txt").write_text(f"{reason}\n{result.output}")
                found.append(reason)
                sys.stdout.write(f"{reason} ({kept / path.name})\n")
                sys.stdout.flush()
            path.unlink()
    record = {
        "seed": settings.seed,
        "minutes": settings.minutes,
        "ffmpeg": shutil.which("ffmpeg") is not None,
        "outcomes": {name: dict(sorted(count.items())) for name, count in counts.items()},
        "found": found,
    }
    add_record(Path(settings.out), code_digest(CODE), record)
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
