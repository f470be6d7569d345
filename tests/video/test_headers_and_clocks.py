"""Files whose header, clock or streams mislead: the frames decide. Kinds that users reported about such tools."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clep.errors import InputError
from clep.video import DenseWindows, KeyFrames, Segments, VideoReader
from clep.video.frames import frames_at
from tests.video.made_videos import number_of, numbered, regular, write_video

SHARED = Path(__file__).parents[3] / "shared" / "data" / "faults"
SAMPLINGS = [DenseWindows(), Segments(8)]


def film(path: Path, frames: int, first: int = 0, start_s: int = 0, **options) -> Path:
    """Write frames at 30/s that are numbered from `first`, on a clock that starts at `start_s`."""
    times = [start_s + time for time in regular(frames, 30)]
    return write_video(path, times, pictures=[numbered(first + number) for number in range(frames)], **options)


def check(path: Path, frames: int, sampling: DenseWindows | Segments, rate: float = 30.0) -> VideoReader:
    """Compare every clip's frame with its place in a film of `frames` frames."""
    reader = VideoReader(path, 48, threads=1)
    clips = list(reader.clips(sampling, 1))
    seconds = frames / rate
    assert reader.duration_s == pytest.approx(seconds, abs=0.05)
    if isinstance(sampling, DenseWindows):
        starts = sampling.starts(round(seconds * 30))
        shown = [(start + 16) / 30 for start in starts]
    else:
        shown = [(row + 0.5) * seconds / sampling.rows for row in range(sampling.rows)]
    numbers = [number_of(clip.frames[0]) for clip in clips]
    assert numbers == pytest.approx([int(second * rate + 1e-6) for second in shown], abs=1)
    return reader


def patched(path: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """Overwrite bytes that lie some places after a mark, wherever the mark is."""
    data = bytearray(path.read_bytes())
    for mark, after, new in changes:
        found = data.find(mark)
        assert found >= 0, mark
        while found >= 0:
            data[found + len(mark) + after : found + len(mark) + after + len(new)] = new
            found = data.find(mark, found + 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("ending", ["flv", "mkv", "mp4", "avi"])
def test_a_header_that_states_too_short_a_length(tmp_path: Path, ending: str, sampling) -> None:
    codec = "mpeg4" if ending == "avi" else "libx264"
    path = write_video(tmp_path / f"film.{ending}", regular(400, 10), rate=10, codec=codec)
    if ending == "flv":
        patched(path, (b"duration\0", 0, struct.pack(">d", 3.0)))
    elif ending == "mkv":
        patched(path, (b"\x44\x89\x88", 0, struct.pack(">d", 3000.0)))
    elif ending == "mp4":
        patched(path, (b"mvhd", 16, struct.pack(">I", 3000)), (b"mdhd", 16, struct.pack(">I", 3 * 90000)))
    else:
        patched(path, (b"avih", 20, struct.pack("<I", 30)), (b"strh", 36, struct.pack("<I", 30)))
    reader = check(path, 400, sampling, rate=10.0)
    assert reader.corrupt_packets == 0
    assert reader.note == ""


@pytest.mark.parametrize(
    ("ending", "length"),
    [("flv", 0.0), ("flv", 1e7), ("flv", float("nan")), ("flv", -5.0), ("mkv", 0.0), ("mkv", 1e12), ("mkv", -1e6)],
)
def test_a_header_that_states_no_length_or_an_impossible_one(tmp_path: Path, ending: str, length: float) -> None:
    mark = {"flv": b"duration\0", "mkv": b"\x44\x89\x88"}[ending]
    path = patched(film(tmp_path / f"film.{ending}", 60), (mark, 0, struct.pack(">d", length)))
    for sampling in SAMPLINGS:
        assert check(path, 60, sampling).corrupt_packets == 0


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("ending", "codec", "container", "count"),
    [
        ("ts", "libx264", None, 4),
        ("mpg", "mpeg2video", "mpeg", 4),
        ("mkv", "libx264", None, 2),
    ],  # FFmpeg reads two MKVs
)
def test_recordings_joined_by_cat(
    tmp_path: Path, ending: str, codec: str, container: str | None, count: int, sampling
) -> None:
    parts = [
        film(tmp_path / f"{part}.{ending}", 60, 60 * part, codec=codec, container=container).read_bytes()
        for part in range(count)
    ]
    (tmp_path / f"whole.{ending}").write_bytes(b"".join(parts))
    reader = check(tmp_path / f"whole.{ending}", 60 * count, sampling)
    assert reader.note.startswith(f"the clock jumps {count - 1} times")


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("starts", [(104, 0), (0, 104), (500, 30)])
def test_a_clock_that_restarts_in_a_transport_stream(tmp_path: Path, starts: Sequence[int], sampling) -> None:
    parts = [film(tmp_path / f"{part}.ts", 150, 150 * part, start).read_bytes() for part, start in enumerate(starts)]
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    reader = check(tmp_path / "whole.ts", 300, sampling)
    assert reader.note.startswith("the clock jumps 1 times")


def test_a_clock_that_restarts_three_times(tmp_path: Path) -> None:
    starts = (7200, 0, 40, 7)
    parts = [film(tmp_path / f"{part}.ts", 45, 45 * part, start).read_bytes() for part, start in enumerate(starts)]
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    for sampling in SAMPLINGS:
        assert check(tmp_path / "whole.ts", 180, sampling).note.startswith("the clock jumps 3 times")


def test_joined_recordings_of_other_sizes(tmp_path: Path) -> None:
    parts = []
    for part, (width, height) in enumerate([(160, 96), (320, 192), (96, 160)]):
        pictures = [numbered(60 * part + number, width, height) for number in range(60)]
        parts.append(write_video(tmp_path / f"{part}.ts", regular(60, 30), pictures=pictures).read_bytes())
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    for sampling in SAMPLINGS:
        check(tmp_path / "whole.ts", 180, sampling)


def test_a_pause_in_a_video_is_not_a_jump(tmp_path: Path) -> None:
    times = [*regular(60, 30), *(20 + time for time in regular(60, 30))]
    reader = VideoReader(write_video(tmp_path / "film.mkv", times), 48)
    clips = list(reader.clips(KeyFrames((1.0, 15.0, 21.0), 0.0), 1))
    assert [number_of(clip.frames[0]) for clip in clips] == [30, 59, 90]
    assert (round(reader.duration_s, 1), reader.note) == (22.0, "")


@pytest.mark.parametrize("trusts_length", [False, True])
def test_key_frames_beyond_the_end_of_a_truncated_video(tmp_path: Path, trusts_length: bool) -> None:
    whole = film(tmp_path / "whole.mp4", 300)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    clips = list(VideoReader(cut, 48).clips(KeyFrames((2.0, 8.0, 9.0), 1.0, trusts_length), 2))
    assert [clip.second for clip in clips] == [2.0]
    assert [number_of(frame) for frame in clips[0].frames] == [52, 67]
    with pytest.raises(InputError, match=r"cut\.mp4 lasts .* s, but the first key frame is at 8\.0 s"):
        list(VideoReader(cut, 48).clips(KeyFrames((8.0, 9.0), 1.0, trusts_length), 2))


@pytest.mark.parametrize("trusts_length", [False, True])
@pytest.mark.parametrize("ending", ["mkv", "ts", "avi", "flv"])
def test_key_frames_beyond_the_end_in_other_containers(tmp_path: Path, ending: str, trusts_length: bool) -> None:
    path = film(tmp_path / f"film.{ending}", 300, codec="mpeg4" if ending == "avi" else "libx264")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clips = list(VideoReader(path, 48).clips(KeyFrames((2.0, 8.0, 9.0), 1.0, trusts_length), 2))
    assert [[number_of(frame) for frame in clip.frames] for clip in clips] == [pytest.approx([52, 67], abs=3)]
    with pytest.raises(InputError, match=r"film\..* lasts .* s, but the first key frame is at 8\.0 s"):
        list(VideoReader(path, 48).clips(KeyFrames((8.0, 9.0), 1.0, trusts_length), 2))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_pictures_that_start_after_the_sound(tmp_path: Path, ending: str) -> None:
    path = film(tmp_path / f"late.{ending}", 300, start_s=2, audio_s=12.0)
    seconds = (0.0, 1.0, 5.01, 11.0)
    for t0, numbers in (("container", [0, 0, 90, 270]), ("first_frame", [0, 30, 150])):
        reader = VideoReader(path, 48, t0=t0)
        clips = list(reader.clips(KeyFrames(seconds[: len(numbers)], 0.0), 1))
        assert [number_of(clip.frames[0]) for clip in clips] == pytest.approx(
            numbers, abs=3
        )  # sound starts up to 0.1 s off
        assert ("first picture comes 2." in reader.note) == (t0 == "container")
    dense = [number_of(clip.frames[0]) for clip in VideoReader(path, 48).clips(DenseWindows(1, 30), 1)]
    assert dense[:12] == pytest.approx([0, 0, *range(0, 300, 30)], abs=3)
    with pytest.raises(InputError, match="t0='sound' is unknown"):
        VideoReader(path, 48, t0="sound")


def two_streams(path: Path, cover: bool) -> Path:
    """Write a film of 60 frames as the second stream; the first is one larger picture."""
    with av.open(str(path), "w") as file:
        thumbnail = file.add_stream("mjpeg", rate=30, width=320, height=192, pix_fmt="yuvj420p")
        stream = file.add_stream("libx264", rate=30, width=160, height=96, pix_fmt="yuv420p")
        if cover:
            thumbnail.disposition = av.stream.Disposition.attached_pic
        for track, count, size in ((thumbnail, 1, (320, 192)), (stream, 60, (160, 96))):
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(numbered(number if track is stream else 999, *size), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                file.mux(track.encode(frame))
            file.mux(track.encode())
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("default", [0, 1, 2])
def test_of_several_films_the_default_one_is_decoded(tmp_path: Path, ending: str, default: int) -> None:
    """As torchcodec's nasa_13013.mp4, whose first stream is a preview."""
    path = tmp_path / f"film.{ending}"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=30, width=w, height=96, pix_fmt="yuv420p") for w in (96, 160, 128)]
        for index, track in enumerate(streams):
            track.disposition = av.stream.Disposition.default if index == default else av.stream.Disposition(0)
        for index, track in enumerate(streams):
            for number in range(30):
                picture = numbered(number if index == default else 999, track.width, track.height)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                file.mux(track.encode(frame))
            file.mux(track.encode())
    check(path, 30, Segments(3))


@pytest.mark.parametrize("cover", [False, True])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_video_is_decoded_and_not_a_thumbnail_before_it(tmp_path: Path, ending: str, cover: bool) -> None:
    check(two_streams(tmp_path / f"film.{ending}", cover), 60, Segments(3))


SIGNS = [(a, b, c, d) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) for d in (-1, 0, 1)]
MATRICES = [signs for signs in SIGNS if abs(signs[0] * signs[3] - signs[1] * signs[2]) == 1 and signs.count(0) == 2]


@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_orientations_are_shown_as_the_display_matrix_says(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    a, b, c, d = matrix
    stored = np.zeros((96, 160, 3), np.uint8)
    stored[:48, :80], stored[:48, 80:], stored[48:, :80] = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    path = write_video(tmp_path / "film.mp4", regular(2, 30), pictures=[stored] * 2)
    fields = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    patched(path, (b"tkhd", 40, struct.pack(">9i", *fields)))
    # The standard's rule, point by point: (x, y) is shown at (a x + c y, b x + d y), moved to begin at 0.
    across, down = (abs(a) * 160 + abs(c) * 96, abs(b) * 160 + abs(d) * 96)
    expected = np.zeros((down, across, 3), np.uint8)
    for y in range(0, 96, 8):
        for x in range(0, 160, 8):
            left, top = a * x + c * y, b * x + d * y
            expected[top if top >= 0 and b + d > 0 else down - 1 + top, left if a + c > 0 else across - 1 + left] = (
                stored[y, x]
            )
    frame = next(VideoReader(path, 96).clips(DenseWindows(), 1)).frames[0].permute(1, 2, 0).numpy()
    assert frame.shape == expected.shape
    points = [(row, column) for row, column in np.argwhere(expected.any(2))]
    assert len(points) > 150
    wrong = [at for at in points if np.abs(frame[tuple(at)].astype(int) - expected[tuple(at)]).max() > 60]
    assert len(wrong) < len(points) // 8, "all but those at the borders of colours"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with the ffmpeg command")
def test_all_eight_orientations_equal_those_of_ffmpeg(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (6, 10, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    plain = write_video(tmp_path / "film.mp4", regular(1, 30), pictures=[picture]).read_bytes()
    for a, b, c, d in MATRICES:
        path = tmp_path / "film.mp4"
        path.write_bytes(plain)
        fields = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
        patched(path, (b"tkhd", 40, struct.pack(">9i", *fields)))
        frame = next(VideoReader(path, 96).clips(DenseWindows(), 1)).frames[0].permute(1, 2, 0).numpy()
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            str(path),
            "-frames:v",
            "1",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ]
        shown = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
        difference = np.abs(frame.astype(int) - shown.reshape(frame.shape))
        assert difference.mean() < 3, (a, b, c, d)


@pytest.mark.parametrize("turn", ["flipped", "mirrored", "transposed"])
def test_a_mirrored_picture_with_wide_pixels_and_one_of_pages(tmp_path: Path, turn: str) -> None:
    a, b, c, d = {"flipped": (1, 0, 0, -1), "mirrored": (-1, 0, 0, 1), "transposed": (0, 1, 1, 0)}[turn]
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:32, :40] = 255  # top left
    path = write_video(tmp_path / "film.mp4", regular(2, 30), pictures=[picture] * 2, aspect=Fraction(2, 1))
    fields = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    patched(path, (b"tkhd", 40, struct.pack(">9i", *fields)))
    wide = picture.repeat(2, 1)
    expected = {"flipped": wide[::-1], "mirrored": wide[:, ::-1], "transposed": wide.transpose(1, 0, 2)}[turn]
    frame = next(VideoReader(path, 96).clips(DenseWindows(), 1)).frames[0].permute(1, 2, 0).numpy()
    (page,) = frames_at(path, [0.0], height=expected.shape[0])
    assert page is not None
    for shown in (frame, page.permute(1, 2, 0).numpy()):
        assert shown.shape == expected.shape
        assert np.abs(shown.astype(int) - expected).mean() < 8


@pytest.mark.skipif(not SHARED.exists(), reason="needs the sample files")
@pytest.mark.parametrize(
    ("name", "seconds", "rows", "decoded"),
    [
        ("header_length_too_short/in/rec.flv", 100.0, 187, 1000),
        ("clock_set_back_in_ts/in/rec.ts", 10.0, 18, 300),
        ("joined_recordings/in/four_ts.ts", 8.0, 14, 240),
        ("joined_recordings/in/four_ps.mpg", 8.0, 14, 240),
        ("first_stream_is_a_thumbnail/in/clip.mp4", 10.0, 18, 300),
        ("video_starts_after_sound/in/late.mp4", 12.0, 22, 300),
    ],
)
def test_reported_files(name: str, seconds: float, rows: int, decoded: int) -> None:
    reader = VideoReader(SHARED / name, 48, threads=1)
    assert len(list(reader.clips(DenseWindows(), 1))) == rows
    assert (round(reader.duration_s, 2), reader.decoded_frames) == (seconds, decoded)
