"""Four short videos, a bank in which some sentences are planted, and an engine that needs no downloaded model."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import BankWriter, Clock, FeatureBank
from clep.datasets.narrations_near import NarrationsNear
from clep.models import DualEncoder
from clep.pretrained import PretrainedModel
from clep.view.search import SearchEngine, VideoFiles
from tests.video.made_videos import write_video

DIM, LENGTH_S, RATE = 32, 12.0, 10
ODD = "odd <b>&'\" %2f ü?#"
PLANTED = {
    ("kitchen", 6.0): "opens the fridge",
    ("kitchen", 2.0): "washes a cup",
    (ODD, 4.0): "closes the fridge",
    ("old", 8.0): "rides a bicycle",
    ("gone", 3.0): "reads a book",
}
"""Video and first second of 2 seconds that look like a sentence."""


class WordVectors:
    """Sentences as sums of vectors of their words, so that sentences that share words are alike."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        return np.stack([sum(map(self.word, text.lower().split()), np.zeros(DIM)) for text in sentences]).astype("f4")

    def word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])
        return np.random.default_rng(seed).standard_normal(DIM) * (0.2 if word in ("a", "the") else 1.0)


def write_world(folder: Path) -> Path:
    """Write bank.h5, narrations.csv and videos/ and return the folder."""
    random, words = np.random.default_rng(0), WordVectors()
    with BankWriter(folder / "bank.h5", DIM, Clock(2.0, 0.5), "float32", encoder="words") as writer:
        for uid in ("gone", "kitchen", ODD, "old"):
            rows = random.standard_normal((int(2 * LENGTH_S), DIM)).astype(np.float32)
            for (video, second), text in PLANTED.items():
                if video == uid:
                    rows[int(2 * second) : int(2 * second) + 4] += 4 * words.encode([text])[0]
            writer.add(uid, rows, duration_s=LENGTH_S)
    lines = ["video,start,end,text,split"]
    for (video, second), text in PLANTED.items():
        quoted = video.replace('"', '""')
        lines.append(f'"{quoted}",{second},{second + 2},"#C C {text}",{"val" if video == "old" else "train"}')
    (folder / "narrations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "videos" / "deeper").mkdir(parents=True)
    times = [Fraction(frame, RATE) for frame in range(int(LENGTH_S * RATE))]
    write_video(folder / "videos" / "kitchen.mp4", times, rate=RATE)
    write_video(folder / "videos" / "deeper" / f"{ODD}.mp4", times, rate=RATE)
    write_video(folder / "videos" / "old.avi", times, codec="mpeg4", rate=RATE)
    return folder


def model() -> PretrainedModel:
    tower = {"_target_": "torch.nn.Identity"}
    metadata = {"sentence_encoder": "words", "bank_encoder": "words", "tag_style": "none"}
    found = PretrainedModel(DualEncoder.from_config({"video": tower, "text": tower, "metadata": metadata}), "cpu")
    encoder: Any = WordVectors()
    found._sentences = encoder
    return found


def engine_of(folder: Path, videos: Sequence[Path] | None = None, template: str = "{}") -> SearchEngine:
    bank = FeatureBank.open(folder / "bank.h5")
    found = model()
    return SearchEngine(
        found,
        bank,
        found.index(bank, 2.0, 1.0),
        VideoFiles([folder / "videos"] if videos is None else videos),
        NarrationsNear(folder / "narrations.csv"),
        template,
    )
