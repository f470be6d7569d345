"""Spans of films, chunks of films and folders of frames: which frames each row shows, batches, what is missing."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger
from clep.models.published import load_published
from clep.preprocess.__main__ import main
from clep.preprocess.clips import Clips
from clep.video import ClipSpec, VideoEncoder
from clep.video.span_frames import FrameOptions, ImageFrames
from clep.video.spans import frame_indices, span_in_frames
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.test_encoder import decoded
from tests.models.published.tiny_checkpoints import SIZES, args, save
from tests.video.made_videos import number_of, numbered, regular, write_video

FRAMES, FPS, LENGTH = 4, 10, 60
SPANS = {"c": (0.5, 2.7), "a": (1.93, 4.05), "b": (5.2, 5.9), "d": (0.0, 6.0)}


class FrameNumbers(VideoEncoder):
    """A row holds the numbers of the clip's frames."""

    name, dim, own_transform = "numbers", FRAMES, True
    shapes: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        self.clip = ClipSpec(FRAMES, 2, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def transform(self, frame: Tensor, crops: str) -> Tensor:
        return torch.full((1, 3, 2, 2), float(number_of(frame)))

    def forward(self, pixels: Tensor) -> Tensor:
        FrameNumbers.shapes.append(tuple(pixels.shape))
        return pixels[:, :, 0, 0, 0]


def film(path: Path, frames: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, regular(len(frames), FPS), rate=FPS, pictures=[numbered(frame) for frame in frames])


def write_images(folder: Path, first: int = 1) -> None:
    folder.mkdir(parents=True)
    for frame in range(LENGTH):
        Image.fromarray(numbered(frame)).save(folder / f"frame_{frame + first:010d}.jpg", quality=95)


def write_table(path: Path, spans: dict[str, tuple[float, float]], video: str = "v") -> Path:
    lines = [f"{name},{video},{start},{end}" for name, (start, end) in spans.items()]
    path.write_text("\n".join(["clip,video,start,end", *lines]) + "\n")
    return path


def run(folder: Path, spans: dict[str, tuple[float, float]] = SPANS, **options: object) -> FeatureBank:
    table, output = write_table(folder / "clips.csv", spans), folder / "clips.h5"
    extraction = {"encoder": {"_target_": f"{__name__}.FrameNumbers"}, "device": "cpu", "n_shards": 1, **options}
    unit = str(extraction.pop("unit", "seconds"))
    Clips(table=table, videos=folder / "videos", output=output, dtype="float32", unit=unit, extraction=extraction).run()
    return FeatureBank.open(output)


def expected(rule: str, span: tuple[float, float]) -> list[int]:
    found = frame_indices(rule, *span_in_frames(rule, *span, FPS, FRAMES), FRAMES)
    return [min(int(index), LENGTH - 1) for index in found]


@pytest.mark.parametrize("stored", ["film", "by_second", "in_order", "with_suffix", "images", "images_from_0"])
@pytest.mark.parametrize("rule", ["lavila", "avion", "egovlp", "middle"])
def test_rows_show_the_frames_of_the_rule_however_the_video_is_stored(tmp_path: Path, stored: str, rule: str) -> None:
    videos, chunk_s, fps = tmp_path / "videos" / "sub", None, None
    if stored == "film":
        film(videos / "v.mp4", range(LENGTH))
    elif stored.startswith("images"):
        write_images(videos / "v", first=0 if stored == "images_from_0" else 1)
        fps = FPS
    else:  # three chunks of 2 s
        chunk_s = 2
        names = (0, 1, 2) if stored == "in_order" else (0, 2, 4)
        for chunk, name in enumerate(names):
            folder = videos / ("v.mp4" if stored == "with_suffix" else "v")
            film(folder / f"{name}.mp4", range(20 * chunk, 20 * chunk + 20))
    bank = run(tmp_path, frame_rule=rule, chunk_s=chunk_s, fps=fps)
    assert bank.videos == sorted(SPANS)
    for name, span in SPANS.items():
        assert bank.video_rows(name).tolist() == [expected(rule, span)]


def test_spans_in_frames_are_the_numbers_of_the_images(tmp_path: Path) -> None:
    write_images(tmp_path / "videos" / "v")
    bank = run(tmp_path, {"a": (11, 31)}, frame_rule="egovlp", unit="frames")
    chosen = frame_indices("egovlp", 11, 31, FRAMES)  # numbers of images, whose pictures count from 0
    assert bank.video_rows("a").tolist() == [[number - 1 for number in chosen.tolist()]]


def test_missing_images_are_counted_and_two_of_one_number_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, options = tmp_path / "v", FrameOptions(None, lambda pixels: pixels)
    write_images(folder)
    for number in range(4, 8):
        (folder / f"frame_{number:010d}.jpg").unlink()
    frames = ImageFrames(folder, options)
    assert f"v: 4 of {LENGTH} images are missing" in caplog.text
    assert [number_of(pixels) for _, pixels in frames.read([2, 3, 6, 7])] == [2, 2, 2, 7]
    Image.fromarray(numbered(0)).save(folder / "thumb_1.png")
    with pytest.raises(InputError, match=r"v holds two images of one number, frame_0000000001\.jpg and thumb_1\.png"):
        ImageFrames(folder, options)


def test_spans_of_several_videos_share_batches_of_one_shape(tmp_path: Path) -> None:
    for name in "vwx":
        film(tmp_path / "videos" / f"{name}.mp4", range(20))
    table = write_table(tmp_path / "clips.csv", {"v0": (0.0, 1.0), "v1": (0.5, 1.5)})
    table.write_text(table.read_text() + "w0,w,0,1\nx0,x,0,1\nx1,x,0.2,1.9\n")
    FrameNumbers.shapes.clear()
    extraction = {"encoder": {"_target_": f"{__name__}.FrameNumbers"}, "device": "cpu", "n_shards": 1, "clip_batch": 4}
    Clips(
        table=table, videos=tmp_path / "videos", output=tmp_path / "o.h5", dtype="float32", extraction=extraction
    ).run()
    assert FrameNumbers.shapes == [(4, FRAMES, 3, 2, 2)] * 2
    assert FeatureBank.open(tmp_path / "o.h5").videos == ["v0", "v1", "w0", "x0", "x1"]


def test_only_new_and_changed_spans_are_encoded_again(tmp_path: Path) -> None:
    film(tmp_path / "videos" / "v.mp4", range(LENGTH))
    run(tmp_path)
    FrameNumbers.shapes.clear()
    run(tmp_path)
    assert FrameNumbers.shapes == []
    bank = run(tmp_path, SPANS | {"a": (2.0, 3.0), "e": (3.0, 4.0)})
    assert [shape[0] for shape in FrameNumbers.shapes] == [8]
    assert bank.videos == ["a", "b", "c", "d", "e"]
    fingerprints = {entry.id: entry.fingerprint for entry in read_ledger(ledger_path(tmp_path / "clips.h5"))}
    assert len(set(fingerprints.values())) == 5


def test_what_is_missing_is_listed_with_its_reason(tmp_path: Path) -> None:
    for chunk in (0, 4):
        film(tmp_path / "videos" / "v" / f"{chunk}.mp4", range(10 * chunk, 10 * chunk + 20))
    table = write_table(
        tmp_path / "clips.csv", {"good": (0.1, 1.0), "hole": (2.5, 3.0), "back": (2.0, 1.0), "last": (4.5, 5.0)}
    )
    table.write_text(table.read_text() + "lost,w,0,1\n")
    extraction = {"encoder": {"_target_": f"{__name__}.FrameNumbers"}, "device": "cpu", "chunk_s": 2}
    options = {"table": table, "videos": tmp_path / "videos", "extraction": extraction}
    coverage = Clips(output=tmp_path / "o.h5", **options).run()
    assert FeatureBank.open(tmp_path / "o.h5").videos == ["good", "last"]
    assert "lacks the chunk that starts at second 2" in coverage["lists"]["failed"]["hole"]
    skipped = {"back": "its span is from 2 to 1", "lost": "no video w or lost in videos"}
    assert coverage["lists"]["skipped"] == skipped
    with pytest.raises(InputError, match=r"'back': its span is from 2 to 1 \(on_error=skip"):
        Clips(output=tmp_path / "p.h5", on_error="stop", **options).run()
    del extraction["chunk_s"]
    with pytest.raises(InputError, match=r"holds a video in chunks: give their length in seconds, e\.g\. chunk_s=300"):
        Clips(output=tmp_path / "q.h5", **options).run()


def test_clips_in_films_of_their_own_are_read_whole(tmp_path: Path) -> None:
    """EGTEA Gaze+'s layout: a folder a video, with a film a clip; the table has the spans in the whole videos."""
    film(tmp_path / "videos" / "v" / "v-1.mp4", range(20, 60))
    film(tmp_path / "videos" / "v" / "v-2.mp4", range(7))
    film(tmp_path / "videos" / "w.mp4", range(LENGTH))
    spans = {"v-1": (103.0, 107.3), "v-2": (5.0, 5.7)}
    bank = run(tmp_path, spans, frame_rule="avion")
    chosen = {"v-1": frame_indices("avion", 0, 40, FRAMES) + 20, "v-2": frame_indices("avion", 0, 7, FRAMES)}
    for name, frames in chosen.items():
        assert bank.video_rows(name).tolist() == [frames.tolist()]
    assert bank.video_seconds("v-1").tolist() == [2.0]  # the middle of the film's 4 s
    table = tmp_path / "clips.jsonl"  # ids alone: whole films
    table.write_text('{"id": "v-1"}\n{"id": "w"}\n{"id": "v-1"}\n')
    extraction = {"encoder": {"_target_": f"{__name__}.FrameNumbers"}, "device": "cpu", "frame_rule": "avion"}
    options = {"videos": tmp_path / "videos", "output": tmp_path / "whole.h5", "dtype": "float32"}
    Clips(table=table, columns={"clip": "id"}, extraction=extraction, **options).run()
    whole = FeatureBank.open(tmp_path / "whole.h5")
    assert whole.video_rows("v-1").tolist() == bank.video_rows("v-1").tolist()
    assert whole.video_rows("w").tolist() == [frame_indices("avion", 0, LENGTH, FRAMES).tolist()]


def test_a_span_beyond_the_end_and_images_without_a_rate_are_refused(tmp_path: Path) -> None:
    film(tmp_path / "videos" / "v.mp4", range(20))
    with pytest.raises(InputError, match=r"lasts 2\.0 s, and the span starts at 9\.\d s: is it the right video"):
        run(tmp_path, {"a": (9.0, 10.0)})
    (tmp_path / "other").mkdir()
    write_images(tmp_path / "other" / "videos" / "v")
    with pytest.raises(InputError, match=r"folder of images: give their rate, e\.g\. fps=59\.94, or unit=frames"):
        run(tmp_path / "other")


def test_the_command_reads_a_table_like_epic_kitchens(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (44, 60, 3), dtype=np.uint8) for _ in range(50)]
    path = tmp_path / "P01" / "P01_01.MP4"
    path.parent.mkdir()
    write_video(path, regular(50, 25), rate=25, pictures=pictures, pixel_format="yuv444p", container="mp4")
    table = tmp_path / "EPIC_100_validation.csv"
    table.write_text(
        "narration_id,video_id,start_timestamp,stop_timestamp\n"
        "P01_01_0,P01_01,00:00:00.25,00:00:01.13\nP01_01_1,P01_01,00:00:00.9,00:00:01.9\n"
    )
    weights = save(tmp_path / "lavila.pt", tiny.lavila(), args=args())
    (tmp_path / "lavila.json").write_text(json.dumps(SIZES))
    words = [f"table={table}", f"videos={tmp_path}", f"output={tmp_path / 'clips.h5'}", "dtype=float32", "device=cpu"]
    words += ["columns.clip=narration_id", "columns.video=video_id", "columns.start=start_timestamp"]
    words += ["columns.end=stop_timestamp", "rounding=epic", "compute.processes=1"]
    assert main(["clips", *words, "encoder=lavila", f"encoder.weights={weights}"]) == 0
    model, frames = load_published("lavila", weights), decoded(path)
    for name, (start, end) in {"P01_01_0": (6, 29), "P01_01_1": (22, 48)}.items():  # 28.25 and 47.5 are rounded up
        clip = model.video_transform(frames[frame_indices("lavila", start, end, 4)])
        row = FeatureBank.open(tmp_path / "clips.h5").video_rows(name)
        torch.testing.assert_close(row, model.encode_video(clip[None], normalize=False), atol=1e-4, rtol=1e-4)
