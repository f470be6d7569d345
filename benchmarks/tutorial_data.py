"""The same made-up narrated videos twice: in the files of the published tutorial, and in those of clep."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from clep.bank import BankWriter, Clock
from clep.data import MomentDataModule, MomentDataset, NarrationSource, Window
from clep.datasets.ego4d import read_ego4d
from clep.errors import InputError
from clep.files import read_json, write_json
from clep.text import Narrations

OFFSET_S = 2.0
_MARKER = "made.json"


@dataclass
class Size:
    """Size of the data. Defaults as in the tutorial: 100 videos, 50,200 narrations, dims 1,536 and 768.

    Ego4D repeats its sentences: in 38,140 real kitchen narrations 11,068 are distinct, the share that is used here.
    """

    videos: int = 100
    narrations: int = 50_200
    distinct_texts: int = 14_600
    dim: int = 1536
    text_dim: int = 768
    shortest_min: float = 8.0
    longest_min: float = 22.0
    seed: int = 0


@dataclass(frozen=True)
class TutorialData:
    """Where the two sets of files lie."""

    folder: Path
    size: Size

    @property
    def per_video(self) -> Path:
        """The tutorial's features: one HDF5 dataset `[T, dim]` float32 for each video id."""
        return self.folder / "tutorial" / "features.hdf5"

    @property
    def narration_files(self) -> list[Path]:
        """The tutorial's narrations: one `.pt` for each, in the order of clep's table."""
        return [_narration_file(self.folder, number) for number in range(self.size.narrations)]

    @property
    def narrations(self) -> Path:
        """The narrations as a table."""
        return self.folder / "clep" / "narrations.arrow"

    @property
    def texts(self) -> Path:
        """The text embeddings as a bank, float32, as preprocessing writes them."""
        return self.folder / "clep" / "texts.h5"

    @property
    def banks(self) -> dict[str, Path]:
        """The features as a bank, by number format."""
        return {dtype: self.folder / "clep" / f"features.{dtype}.h5" for dtype in ("float16", "float32")}

    def module(self, dtype: str, device: str, batch_size: int, copies: int = 1) -> MomentDataModule:
        """Return the data module, set up, over these files with the tutorial's window: ± 2 s, aligned at the start.

        Every narration is kept and none is held out, so that both sides see the same moments. With `copies` an epoch
        holds each of them so many times, as many steps as a larger data set has between two of its epochs' ends.
        """
        source = NarrationSource(
            str(self.narrations),
            str(self.texts),
            str(self.banks[dtype]),
            offset_s=OFFSET_S,
            exclude_splits=[],
            min_words=1,
            duplicate_s=0.0,
            val_fraction=0.0,
        )
        module = MomentDataModule({"made": source}, Window(align="start"), batch_size, device)
        module.setup("fit")
        if copies > 1:
            once = module.parts[0]
            moments = once.moments.select(np.tile(np.arange(len(once)), copies))
            module.train_set = MomentDataset(moments, once.bank, once.texts, once.window)
        return module


def tutorial_data(folder: str | Path, size: Size) -> TutorialData:
    """Write the files, or reuse existing ones with the same settings.

    Raises:
        InputError: the folder holds something else.
    """
    data = TutorialData(Path(folder) / "tutorial_size", size)
    marker = data.folder / _MARKER
    if marker.exists() and read_json(marker) == asdict(size):
        return data
    if data.folder.exists() and any(data.folder.iterdir()):
        if not {path.name for path in data.folder.iterdir()} <= {_MARKER, "tutorial", "clep", "narration.json"}:
            raise InputError(f"{data.folder} holds other files; choose another folder with data=DIR")
        shutil.rmtree(data.folder)
    rng = np.random.default_rng(size.seed)
    seconds = rng.uniform(60 * size.shortest_min, 60 * size.longest_min, size.videos).round(2)
    durations = {f"video-{number:04d}": float(second) for number, second in enumerate(seconds)}
    _write_narrations(data, durations, rng)
    _write_features(data, durations, rng)
    write_json(marker, asdict(size))
    return data


def _write_narrations(data: TutorialData, durations: dict[str, float], rng: np.random.Generator) -> None:
    size, total = data.size, sum(durations.values())
    bounds = np.round(np.cumsum([0, *durations.values()]) / total * size.narrations).astype(int)
    sentence = rng.permutation(np.arange(size.narrations) % size.distinct_texts)
    made = {}
    for (uid, duration_s), first, last in zip(durations.items(), bounds[:-1], bounds[1:], strict=True):
        narrated = [
            {
                "timestamp_sec": float(second),
                "timestamp_frame": int(second * 30),
                "narration_text": f"#C C takes the thing number {which} from the shelf",
                "annotation_uid": "",
            }
            for second, which in zip(
                np.sort(rng.uniform(0, duration_s, last - first)).round(4), sentence[first:last], strict=True
            )
        ]
        made[uid] = {
            "status": "complete",
            "narration_pass_1": {"narrations": narrated[::2], "summaries": []},
            "narration_pass_2": {"narrations": narrated[1::2], "summaries": []},
        }
    data.folder.mkdir(parents=True, exist_ok=True)
    source = data.folder / "narration.json"
    source.write_text(json.dumps(made), encoding="utf-8")
    read_ego4d(source).write(data.narrations)
    narrations = Narrations.open(data.narrations)
    embeddings = rng.standard_normal((len(narrations.texts), size.text_dim), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    with BankWriter(data.texts, size.text_dim, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", embeddings)
    for number, (video, second, text) in enumerate(
        zip(narrations.video.tolist(), narrations.second.tolist(), narrations.text_id.tolist(), strict=True)
    ):
        path = _narration_file(data.folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        embedding = torch.from_numpy(embeddings[text]).clone()
        torch.save(
            {"embedding": embedding, "video_uid": narrations.videos[video], "second": second, "text_id": text}, path
        )


def _write_features(data: TutorialData, durations: dict[str, float], rng: np.random.Generator) -> None:
    clock, dim = Clock(), data.size.dim

    def videos() -> Iterator[tuple[str, np.ndarray, float]]:
        for uid, duration_s in durations.items():
            n_rows = max(1, int((duration_s - clock.row_seconds) * 30 / 16) + 1)
            yield uid, rng.standard_normal((n_rows, dim), dtype=np.float32), duration_s

    data.per_video.parent.mkdir(parents=True, exist_ok=True)
    with (
        h5py.File(data.per_video, "w") as tutorial,
        BankWriter(data.banks["float16"], dim, clock, "float16", encoder="made up") as half,
        BankWriter(data.banks["float32"], dim, clock, "float32", encoder="made up") as full,
    ):
        for uid, rows, duration_s in videos():
            tutorial.create_dataset(uid, data=rows)
            half.add(uid, rows, duration_s=duration_s)
            full.add(uid, rows, duration_s=duration_s)


def _narration_file(folder: Path, number: int) -> Path:
    return folder / "tutorial" / "narrations" / f"{number // 1000:04d}" / f"{number}.pt"
