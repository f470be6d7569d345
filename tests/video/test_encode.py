import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clep.errors import InputError
from clep.video import ClipSpec, DenseWindows, Segments, VideoEncoder, VideoReader, encode_video
from clep.video.encode import encode_together
from clep.video.transforms import crops_of, normalize
from tests.video.made_videos import BITS, numbered, regular, write_video


class Small(VideoEncoder):
    """A convolution and a mean over places and frames."""

    def __init__(self, frame_wise: bool, frames: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.name, self.dim, self.frame_wise = "small", 6, frame_wise
        self.clip = ClipSpec(frames, 32, 40, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
        self.layer = torch.nn.Conv2d(3, 6, 8, 8)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.shapes.append(tuple(pixels.shape))
        rows = self.layer(pixels.flatten(0, 1)).relu().mean((2, 3))
        return rows.unflatten(0, pixels.shape[:2]).mean(1)


def one_by_one(path: Path, encoder: Small, sampling: DenseWindows | Segments, crops: str) -> np.ndarray:
    rows = []
    for clip in VideoReader(path, encoder.clip.short_side_px).clips(sampling, encoder.clip.frames):
        views = [
            crops_of(normalize(frame, encoder.clip.mean, encoder.clip.std), crops, encoder.clip.crop_px)
            for frame in clip.frames
        ]
        with torch.inference_mode():
            rows.append(encoder(torch.stack(views, 1)).mean(0).numpy())
    return np.stack(rows)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("encode") / "v.mp4", regular(205, 25), rate=25)


@pytest.mark.parametrize("frame_wise", [False, True])
@pytest.mark.parametrize("crops", ["centre", "three", "ten"])
@pytest.mark.parametrize("sampling", [DenseWindows(), DenseWindows(16, 24, 12.5), Segments(7)])
def test_rows_equal_those_of_single_clips(
    path: Path, frame_wise: bool, crops: str, sampling: DenseWindows | Segments
) -> None:
    encoder = Small(frame_wise)
    video = encode_video(path, encoder, sampling, crops=crops, batch_size=4, threads=1)
    blocks = list(video)
    rows = np.concatenate(blocks)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, one_by_one(path, encoder, sampling, crops), atol=1e-5)
    assert video.n_rows == len(rows)
    assert video.duration_s == pytest.approx(8.2)
    assert video.decoded_frames >= 190
    assert video.corrupt_packets == 0
    if isinstance(sampling, Segments):
        assert video.seconds == pytest.approx((np.arange(7) + 0.5) * 8.2 / 7)
    else:
        assert video.seconds is None


def test_batches_have_few_shapes(path: Path) -> None:
    encoder = Small(False)
    list(encode_video(path, encoder, DenseWindows(), batch_size=8))
    assert len(DenseWindows().starts(246)) == 15
    assert [shape[0] for shape in encoder.shapes] == [8, 8]
    assert encoder.shapes[0] == (8, 4, 3, 32, 32)
    encoder.shapes.clear()
    list(encode_video(path, encoder, DenseWindows(), batch_size=8, crops="three"))
    assert encoder.shapes == [(24, 4, 3, 32, 32)] * 2


def test_frame_that_windows_share_is_encoded_once(path: Path) -> None:
    encoder = Small(True, frames=32)
    list(encode_video(path, encoder, DenseWindows(rate=25), batch_size=16))
    assert {shape[1] for shape in encoder.shapes} == {1}
    assert [shape[0] for shape in encoder.shapes] == [16] * 13  # 205 frames, and 3 to fill the last batch


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Films of 1 to 40 windows of 32 frames, a file that is no film, and one that is cut off."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for index, rows in enumerate((1, 40, 2, 1, 7, 1, 13)):
        pictures = [numbered((37 * index + frame) % 2**BITS) for frame in range(16 * (rows + 1))]
        made.append(write_video(folder / f"{index}.mp4", regular(len(pictures), 30), pictures=pictures))
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no film")
    return [*made[:3], broken, *made[3:]]


@pytest.mark.parametrize("frame_wise", [False, True])
@pytest.mark.parametrize(("decoders", "cores"), [(1, 1), (3, 2)])
def test_rows_are_the_same_bits_alone_and_in_batches_with_other_videos(
    clips: list[Path], frame_wise: bool, decoders: int, cores: int
) -> None:
    encoder = Small(frame_wise)
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    begun: list[int] = []
    try:
        videos = [encode_video(path, encoder, DenseWindows(), threads=1) for path in clips]
        encoder.shapes.clear()
        together, failed = [], []
        for index, (video, blocks) in enumerate(encode_together(videos, decoders, begun.append)):
            try:
                together.append(np.concatenate(list(blocks)))
            except InputError as error:
                failed.append((index, str(error)))
            assert video is videos[index]
        batches = len(encoder.shapes)
        alone = [np.concatenate(list(video)) for index, video in enumerate(videos) if index != 3]
    finally:
        torch.set_num_threads(before)
    assert [len(rows) for rows in together] == [1, 40, 2, 1, 7, 1, 13]
    assert len(np.unique([rows[0] for rows in together], axis=0)) == 7
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(failed) == 1
    assert failed[0][0] == 3
    assert "broken.mp4" in failed[0][1]
    assert sorted(begun) == list(range(8))
    if not frame_wise:
        assert batches == -(-65 // 8)


def test_blocks_that_are_left_do_not_reach_the_next_video(clips: list[Path]) -> None:
    encoder = Small(False)
    videos = [encode_video(path, encoder, DenseWindows(), threads=1) for path in clips[:3]]
    found = []
    for _, blocks in encode_together(videos, decoders=2):
        found.append(next(blocks))
    expected = [next(iter(encode_video(path, encoder, DenseWindows(), threads=1))) for path in clips[:3]]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert decoding_threads() == 0


def test_rows_do_not_depend_on_what_was_encoded_before(path: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", regular(50, 30))
    encoder = Small(False)
    first = np.concatenate(list(encode_video(path, encoder, DenseWindows())))
    list(encode_video(other, encoder, DenseWindows()))
    assert np.array_equal(first, np.concatenate(list(encode_video(path, encoder, DenseWindows(), threads=3))))


def test_iterating_twice_gives_the_same(path: Path) -> None:
    video = encode_video(path, Small(True), Segments(3))
    first = np.concatenate(list(video))
    assert np.array_equal(first, np.concatenate(list(video)))
    assert video.n_rows == 3
    assert video.seconds is not None
    assert len(video.seconds) == 3


def decoding_threads() -> int:
    return sum(thread.name == "clep-decode" for thread in threading.enumerate())


def test_leaving_early_ends_the_thread(path: Path) -> None:
    blocks = iter(encode_video(path, Small(False), DenseWindows(), batch_size=1))
    next(blocks)
    assert decoding_threads() == 1
    blocks.close()
    assert decoding_threads() == 0


def test_error_of_the_encoder_ends_the_thread(path: Path) -> None:
    class Broken(Small):
        def forward(self, pixels: Tensor) -> Tensor:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        list(encode_video(path, Broken(False), DenseWindows()))
    assert decoding_threads() == 0


def test_error_of_the_decoder_is_raised(tmp_path: Path, path: Path) -> None:
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    (tmp_path / "blank.mp4").write_bytes(data)
    with pytest.raises(InputError, match="no frame can be decoded"):
        list(encode_video(tmp_path / "blank.mp4", Small(False), DenseWindows()))
    with pytest.raises(InputError, match="does not exist"):
        list(encode_video(tmp_path / "none.mp4", Small(False), DenseWindows()))
    assert decoding_threads() == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"crops": "five"}, "crops"), ({"precision": "half"}, "precision"), ({"batch_size": 0}, "batch_size"),
        ({"device": "tpu9"}, "device"), ({"device": "cuda:99"}, "no such GPU"),
    ],
)  # fmt: skip
def test_refuses_unknown_settings(path: Path, wrong: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        encode_video(path, Small(False), DenseWindows(), **wrong)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("frame_wise", [False, True])
@pytest.mark.parametrize("crops", ["centre", "three"])
def test_rows_on_a_gpu_equal_those_on_a_cpu(path: Path, frame_wise: bool, crops: str) -> None:
    encoder = Small(frame_wise)
    on_cpu = np.concatenate(list(encode_video(path, encoder, DenseWindows(), crops=crops)))
    on_gpu = np.concatenate(list(encode_video(path, encoder, DenseWindows(), crops=crops, device="cuda")))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=2e-3)
    half = encode_video(path, encoder, DenseWindows(), crops=crops, device="cuda", precision="bf16")
    np.testing.assert_allclose(np.concatenate(list(half)), on_cpu, atol=3e-2)


def test_rows_are_the_same_bits_on_any_number_of_cores(path: Path) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            found.append(np.concatenate(list(encode_video(path, Small(False), DenseWindows(), batch_size=2))))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_batches_are_encoded_at_the_same_time_a_core_each(path: Path) -> None:
    both = threading.Barrier(2, timeout=30)
    cores = []

    class Meeting(Small):
        def forward(self, pixels: Tensor) -> Tensor:
            cores.append(torch.get_num_threads())
            both.wait()  # goes on only where another batch is encoded meanwhile
            return super().forward(pixels)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(encode_video(path, Meeting(False), DenseWindows(), batch_size=8))
    finally:
        torch.set_num_threads(before)
    assert cores == [1, 1]


def test_an_error_of_the_encoder_is_raised_where_rows_are_read(path: Path) -> None:
    class Broken(Small):
        def forward(self, pixels: Tensor) -> Tensor:
            raise ArithmeticError("no rows")

    with pytest.raises(ArithmeticError, match="no rows"):
        list(encode_video(path, Broken(False), DenseWindows(), batch_size=2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clep-")]
