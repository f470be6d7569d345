from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clep.errors import InputError
from clep.video import DenseWindows, Segments, VideoReader
from clep.video.decoding import VideoFile
from tests.video.made_videos import number_of, numbered, regular, write_video

SAMPLINGS = [DenseWindows(), Segments(4)]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 40, (300, 96, 160, 3), dtype=np.uint8)
    pictures = [numbered(number) // 2 + noise[number] for number in range(300)]
    return write_video(tmp_path / "good.mp4", regular(300, 30), pictures=pictures, group=15)


def refuses(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        list(VideoReader(path, 48).clips(DenseWindows(), 4))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    refuses(tmp_path / "nothing.mp4", "does not exist")


def test_folder(tmp_path: Path) -> None:
    refuses(tmp_path, "is a folder")


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refuses(tmp_path / "empty.mp4", "is empty")


@pytest.mark.parametrize("name", ["text.mp4", "text.txt", "wrong.mkv"])
def test_text_with_the_wrong_extension(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("These are not the frames that you look for.\n" * 40)
    refuses(tmp_path / name, "cannot be opened as a video")


def test_playlist_opens_nothing_else(tmp_path: Path, video: Path) -> None:
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{video}\n")
    with pytest.raises(InputError):
        list(VideoReader(tmp_path / "list.m3u8", 48).clips(DenseWindows(), 4))


def test_no_video_stream(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 16000
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    refuses(tmp_path / "sound.mp4", "no video stream")


def test_truncated_before_the_index(tmp_path: Path, video: Path) -> None:
    short = tmp_path / "short.mp4"
    short.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    refuses(short, "cannot be opened as a video")


def test_wrong_extension_of_a_real_video(tmp_path: Path, video: Path) -> None:
    renamed = video.rename(tmp_path / "video.avi")
    assert len(list(VideoReader(renamed, 48).clips(DenseWindows(), 4))) == len(DenseWindows().starts(300))


def test_name_that_looks_like_a_url(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = video.rename(tmp_path / "http:é %03d?.mp4")
    monkeypatch.chdir(tmp_path)
    assert list(VideoReader(renamed.name, 48).clips(Segments(1), 1))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_frames_without_pictures(tmp_path: Path, video: Path, sampling: DenseWindows | Segments) -> None:
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    assert end > start
    data[start:end] = bytes(end - start)
    (tmp_path / "blank.mp4").write_bytes(data)
    with pytest.raises(InputError, match="no frame can be decoded"):
        list(VideoReader(tmp_path / "blank.mp4", 48).clips(sampling, 4))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_are_skipped_and_counted(
    tmp_path: Path, video: Path, sampling: DenseWindows | Segments, seed: int
) -> None:
    data = np.frombuffer(video.read_bytes(), np.uint8).copy()
    third = len(data) // 3
    where = np.random.default_rng(seed).integers(third, third + third // 4, 400)
    data[where] ^= 0x5A
    (tmp_path / "flipped.mp4").write_bytes(data.tobytes())
    reader = VideoReader(tmp_path / "flipped.mp4", 48, threads=2)
    clips = list(reader.clips(sampling, 4))
    assert reader.duration_s == pytest.approx(10.0, abs=0.1)
    assert len(clips) == (len(DenseWindows().starts(300)) if isinstance(sampling, DenseWindows) else 4)
    if isinstance(sampling, DenseWindows):
        assert reader.corrupt_packets > 0


@pytest.mark.parametrize("ending", ["mkv", "ts", "avi"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_truncated_in_the_middle(tmp_path: Path, ending: str, sampling: DenseWindows | Segments) -> None:
    whole = write_video(tmp_path / f"whole.{ending}", regular(300, 30), codec="mpeg4" if ending == "avi" else "libx264")
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    reader = VideoReader(cut, 48, threads=2)
    clips = list(reader.clips(sampling, 4))
    assert 4.0 < reader.duration_s < 8.0
    numbers = [number_of(frame) for clip in clips for frame in clip.frames]
    assert max(numbers) == pytest.approx(reader.duration_s * 30, abs=45)
    if isinstance(sampling, DenseWindows):
        assert numbers[:4] == [4, 12, 20, 28]


def test_invalid_requests_are_refused(video: Path) -> None:
    with pytest.raises(InputError, match="short_side_px"):
        VideoReader(video, 0)
    reader = VideoReader(video, 48)
    with pytest.raises(InputError, match="at least one frame"):
        next(reader.clips(DenseWindows(), 0))
    reader.close()


def test_closing_the_clips_closes_the_file(video: Path) -> None:
    reader = VideoReader(video, 48)
    clips = reader.clips(DenseWindows(), 4)
    next(clips)
    clips.close()
    with pytest.raises(Exception, match="not open"):
        next(iter(reader._file._container.demux()))


def test_a_stream_that_appears_in_the_middle_costs_one_packet(tmp_path: Path) -> None:
    """Damaged tables of a transport stream announce one, which PyAV answers with an IndexError."""
    file = VideoFile(write_video(tmp_path / "v.ts", regular(50, 25), rate=25))

    class AppearingStream:
        def __init__(self, container: Any) -> None:
            self._container, self._packets = container, container.demux(video=0)
            self.demuxes = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def demux(self, stream: Any) -> Any:
            self.demuxes += 1
            for number, packet in enumerate(self._packets):
                yield packet
                if self.demuxes == 1 and number == 20:
                    raise IndexError("list index out of range")

    file._container = AppearingStream(file._container)
    pictures = [torch.from_numpy(frame.picture.to_ndarray(format="rgb24")) for frame in file.frames()]
    assert file._container.demuxes == 2
    assert [number_of(picture.permute(2, 0, 1)) for picture in pictures] == list(range(50))
    assert file.corrupt_packets == 1
