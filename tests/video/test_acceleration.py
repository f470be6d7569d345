"""Options that make encoders faster: compiled, channels last, pixels prepared on the device."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clep.errors import InputError
from clep.models.published.pixels import PublishedClip, transform
from clep.video import ClipSpec, DenseWindows, VideoEncoder, batches, encode_images, encode_video
from clep.video.acceleration import accelerate
from clep.video.batches import BatchEncoder, copy_to_gpu
from clep.video.encode import encode_together
from tests.video.made_videos import regular, write_video

WINDOWS = DenseWindows(8, 4, 25)


class Convolution(VideoEncoder):
    """A convolution and a mean over places and frames."""

    name, dim = "convolution", 6

    def __init__(self, own_transform: bool = False, antialias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.clip = ClipSpec(2, 32, 40, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
        self.own_transform = own_transform
        self.pixels = PublishedClip(2, "middle", 32, 40, self.clip.mean, self.clip.std, antialias=antialias)
        self.layer = torch.nn.Conv2d(3, 6, 8, 8)

    def transform(self, frame: Tensor, crops: str) -> Tensor:
        return transform(frame, self.pixels, crops)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = self.layer(pixels.flatten(0, 1)).relu().mean((2, 3))
        return rows.unflatten(0, pixels.shape[:2]).mean(1)


class MeanColour(Convolution):
    name, dim = "mean-colour", 3

    def __init__(self) -> None:
        super().__init__()
        del self.layer

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((1, 3, 4))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two films of different sizes, so that batches hold frames of both."""
    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    made = []
    for name, (height, width) in {"a": (64, 96), "b": (80, 64)}.items():
        coarse = random.integers(0, 256, (22, height // 8, width // 8, 3), dtype=np.uint8)
        pictures = list(coarse.repeat(8, 1).repeat(8, 2))
        made.append(write_video(folder / f"{name}.mp4", regular(22, 25), rate=25, pictures=pictures))
    return made


def rows_of(films: list[Path], encoder: VideoEncoder, crops: str = "centre", device: str = "cpu") -> np.ndarray:
    """Rows of both films, in batches of 3 that mix them."""
    videos = [encode_video(film, encoder, WINDOWS, crops=crops, batch_size=3, device=device) for film in films]
    return np.concatenate([block for _, blocks in encode_together(videos) for block in blocks])


def pretend_compiler(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
    """Let `torch.compile` return functions that add 1, or fail with an error; returns the list of what it compiled."""
    compiled: list[str] = []

    def compile_(function: Callable[[Tensor], Tensor], **options: Any) -> Callable[[Tensor], Tensor]:
        compiled.append(function.__name__)

        def call(pixels: Tensor) -> Tensor:
            if error is not None:
                raise error
            return function(pixels) + 1

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    return compiled


def test_a_compiled_encoder_is_compiled_once_for_all_batches_and_threads(
    films: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, encoder = rows_of(films, Convolution()), Convolution()
    compiled = pretend_compiler(monkeypatch)
    accelerate(encoder, compile=True)
    assert compiled == []  # the shape of a batch is known at the first one
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        rows = rows_of(films, encoder)
    finally:
        torch.set_num_threads(before)
    assert compiled == ["forward"]
    np.testing.assert_allclose(rows, plain + 1, rtol=1e-6)


def test_where_compiling_fails_rows_are_those_of_the_plain_encoder_with_one_warning(
    films: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend_compiler(monkeypatch, RuntimeError("no C++ compiler\nand a long trace"))
    encoder = Convolution()
    accelerate(encoder, compile=True)
    with caplog.at_level(logging.WARNING):
        rows = rows_of(films, encoder)
    np.testing.assert_array_equal(rows, rows_of(films, Convolution()))
    assert [record.getMessage() for record in caplog.records] == [
        "compile=true: torch.compile failed (RuntimeError: no C++ compiler), so convolution encodes without it"
    ]


def test_a_lack_of_memory_while_compiling_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_compiler(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    encoder = Convolution()
    accelerate(encoder, compile=True)
    with pytest.raises(torch.OutOfMemoryError):
        encoder(torch.zeros(1, 2, 3, 32, 32))


@pytest.mark.slow
def test_compiled_rows_equal_plain_ones_up_to_rounding(films: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    encoder = Convolution()
    accelerate(encoder, compile=True, channels_last=True)
    np.testing.assert_allclose(rows_of(films, encoder), rows_of(films, Convolution()), rtol=1e-5, atol=1e-6)
    assert {one.name for one in caplog.records} <= {"torch.__trace"}  # of the compiler, for its own tools


def test_channels_last_changes_the_layout_of_convolutions_and_no_value(films: list[Path]) -> None:
    encoder = Convolution()
    encoder.tubes, encoder.head = torch.nn.Conv3d(3, 4, 2), torch.nn.Linear(6, 2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    accelerate(encoder, channels_last=True)
    assert encoder.layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert encoder.tubes.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    np.testing.assert_allclose(rows_of(films, encoder), rows_of(films, Convolution()), rtol=1e-5, atol=1e-6)


def test_options_that_an_encoder_cannot_use_are_refused() -> None:
    with pytest.raises(InputError, match="channels_last=true: mean-colour has no convolution"):
        accelerate(MeanColour(), channels_last=True)
    with pytest.raises(InputError, match="transform_on_device=true.*convolution.*leave the option out"):
        accelerate(Convolution(), transform_on_device=True)


@pytest.mark.parametrize("crops", ["centre", "three"])
@pytest.mark.parametrize("antialias", [False, True])
def test_frames_prepared_on_the_device_travel_as_bytes_once_each_and_give_the_same_rows(
    films: list[Path], monkeypatch: pytest.MonkeyPatch, crops: str, antialias: bool
) -> None:
    on_host, on_device = Convolution(True, antialias), Convolution(True, antialias)
    accelerate(on_device, transform_on_device=True)
    expected = rows_of(films, on_host, crops)
    travelled: list[tuple[torch.dtype, tuple[int, ...], int]] = []
    to_device = BatchEncoder.to_device

    def spy(self: BatchEncoder, clips: Any) -> Tensor:
        (frame,) = [frame for clip in clips for frame in clip]
        travelled.append((frame.dtype, tuple(frame.shape), id(frame)))
        return to_device(self, clips)

    monkeypatch.setattr(BatchEncoder, "to_device", spy)
    np.testing.assert_array_equal(rows_of(films, on_device, crops), expected)
    assert {one[:2] for one in travelled} == {(torch.uint8, (1, 3, 64, 96)), (torch.uint8, (1, 3, 80, 64))}
    monkeypatch.undo()
    image = films[0].with_name("image.png")
    write_image(image)
    rows = [next(encode_images([image], encoder, crops=crops, batch_size=2)) for encoder in (on_host, on_device)]
    np.testing.assert_array_equal(*rows)


def write_image(path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def test_a_frame_that_clips_share_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Convolution(own_transform=True)
    accelerate(encoder, transform_on_device=True)
    calls = []
    usual = encoder.transform
    monkeypatch.setattr(encoder, "transform", lambda frame, crops: calls.append(1) or usual(frame, crops))
    work = BatchEncoder(encoder)
    frames = [work.prepare(torch.randint(256, (3, 50, 60), dtype=torch.uint8)) for _ in range(3)]
    rows = work.start([(frames[0], frames[1]), (frames[1], frames[2]), (frames[1], frames[2])])()
    assert len(calls) == 3
    np.testing.assert_array_equal(rows[1], rows[2])
    assert not np.array_equal(rows[0], rows[1])


class Recorded(torch.Tensor):
    """A tensor that records what is done with it."""

    log: list[Any]

    def to(self, device: torch.device, non_blocking: bool = False) -> "Recorded":  # type: ignore[override]
        assert non_blocking
        self.log.append(("copy", device))
        return self

    def record_stream(self, stream: Any) -> None:
        self.log.append(("used by", stream.name))


def test_copies_to_a_gpu_run_beside_its_work_and_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []

    class Entered:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            log.append(("enter", self.stream.name))

        def __exit__(self, *_: object) -> None:
            log.append(("leave", self.stream.name))

    computing = SimpleNamespace(name="computing", wait_stream=lambda other: log.append(("wait for", other.name)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(batches, "_copying_stream", lambda device: SimpleNamespace(name="copying"))
    monkeypatch.setattr(torch.cuda, "stream", Entered)
    pixels = torch.zeros(2, 3).as_subclass(Recorded)
    pixels.log = log
    copy_to_gpu(pixels, torch.device("cuda"))
    assert log == [
        *(("enter", "copying"), ("copy", torch.device("cuda")), ("leave", "copying")),
        *(("wait for", "copying"), ("used by", "computing")),
    ]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    ("option", "tolerance"), [("compile", 1e-3), ("channels_last", 1e-3), ("transform_on_device", 5e-2)]
)
def test_rows_of_a_gpu_are_close_to_those_of_the_cpu(films: list[Path], option: str, tolerance: float) -> None:
    own = option == "transform_on_device"
    encoder = Convolution(own, antialias=own)
    accelerate(encoder.to("cuda"), **{option: True})
    rows = rows_of(films, encoder, device="cuda")
    np.testing.assert_allclose(rows, rows_of(films, Convolution(own, antialias=own)), atol=tolerance)
