"""EPIC-KITCHENS-100 retrieval from files to figures: `python -m benchmarks.epic_mir data=FOLDER checkpoint=FILE`.

The real 9,668 narrations and 3,842 sentences, a tiny checkpoint in LaViLa's layout, and a synthetic film for each
video: spans are decoded and encoded by the job clips, sentences embedded by the job epic_mir, and the leaderboard
measures them. Weights and pictures are random, so the figures are near those of a random ranking, 5.65 mAP and 10.90
nDCG. How near is computed: a random model ranks the sentences much alike for all clips, so its figures vary more than
those of random scores. They are measured again with the embeddings of the sentences turned by random rotations, which
keep how clips and sentences lie among themselves; the trial's own may differ by four standard deviations of these.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.report import RESULTS, Report, quiet, read_settings
from clep.bank import FeatureBank
from clep.config.overrides import override
from clep.datasets.epic_retrieval import read_epic_actions, read_epic_sentences
from clep.leaderboard import Entry, run_leaderboard
from clep.metrics import mir_metrics, mir_relevancy
from clep.text.texts import distinct_texts

FPS, SIZE = 2, 32
RANDOM_RANKING = {"mAP": 5.65, "nDCG": 10.90}
"""Figures of random scores on the real files."""
VOCABULARY = 49_408
"""Tokens of CLIP; a tiny checkpoint has fewer."""


@dataclass
class Settings:
    """Of this benchmark; `data` holds EPIC-KITCHENS-100's csv files. `videos` limits the films, 0 for all of them.

    `rotations` of the sentences give the tolerance; 0 leaves it out.
    """

    data: str = "../shared/data/epic_kitchens"
    checkpoint: str = "../shared/data/peers/lavila/clip_timesformer.pt"
    sizes: str = "../shared/data/peers/lavila/config.json"
    videos: int = 0
    rotations: int = 12
    results: str = str(RESULTS)


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the trial, write the result and return it."""
    settings = read_settings(Settings, words)
    if not Path(settings.data).is_dir() or not Path(settings.checkpoint).is_file():
        sys.exit(f"skipped: {settings.data} or {settings.checkpoint} does not exist")
    quiet()
    report = Report("epic_mir", settings, settings.results)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = with_full_vocabulary(Path(settings.checkpoint), Path(settings.sizes), Path(scratch))
        entry = trial(Path(settings.data), checkpoint, Path(scratch), settings.videos)
        rotated = rotated_metrics(Path(scratch) / "data", settings.rotations)
    report.add("metrics", entry.metrics)
    report.add("coverage", entry.coverage)
    if rotated:
        report.add("metrics of rotated sentences", rotated)
    # A random ranking of some of the clips has other figures.
    for metric, value in RANDOM_RANKING.items() if rotated and not settings.videos else ():
        gap = abs(entry.metrics[f"ek100_mir/mean/{metric}"] - value)
        tolerance = 4 * float(np.std([one[metric] for one in rotated], ddof=1))
        report.target(f"{metric}: distance from a random ranking's {value}", gap, at_most=tolerance)
    return report.write()


def with_full_vocabulary(checkpoint: Path, sizes: Path, folder: Path) -> Path:
    """Write a copy of a tiny checkpoint with a random vector for each of CLIP's tokens, and its sizes beside it."""
    content = torch.load(checkpoint, weights_only=False)
    state = content["state_dict"]
    name = next(key for key in state if key.endswith("token_embedding.weight"))
    generator = torch.Generator().manual_seed(0)
    state[name] = 0.3 * torch.randn(VOCABULARY, state[name].shape[1], generator=generator)
    copy = folder / "tiny.pth"
    torch.save({"state_dict": state}, copy)
    kept = {key: value for key, value in json.loads(sizes.read_text()).items() if key not in ("vocab", "note")}
    copy.with_suffix(".json").write_text(json.dumps({key: kept[key] for key in ("vision_heads", "text_heads")}))
    return copy


def trial(data: Path, checkpoint: Path, scratch: Path, videos: int = 0) -> Entry:
    """Measure a checkpoint of LaViLa's layout on the clips and sentences of a folder, with synthetic films.

    Args:
        data: holds `EPIC_100_validation.csv` or `EPIC_100_retrieval_test.csv`, and the sentences.
        checkpoint: read as LaViLa's.
        scratch: where films, banks and results go.
        videos: films are made for so many videos, 0 for all; the clips of the others are missing.
    """
    folder = scratch / "data" / "epic_kitchens"
    (folder / "videos").mkdir(parents=True)
    clips = data / "EPIC_100_retrieval_test.csv"
    clips = clips if clips.is_file() else data / "EPIC_100_validation.csv"  # the same clips
    (folder / "EPIC_100_retrieval_test.csv").write_bytes(clips.read_bytes())
    sentences = "EPIC_100_retrieval_test_sentence.csv"
    (folder / sentences).write_bytes((data / sentences).read_bytes())
    spans = read_epic_actions(clips).spans
    for number, video in enumerate(list(dict.fromkeys(spans.videos))[: videos or None]):
        ends = [end for name, end in zip(spans.videos, spans.end_s.tolist(), strict=True) if name == video]
        write_noise(folder / "videos" / f"{video}.mp4", max(ends) + 2, seed=number)
    model = {"title": "tiny", "kind": "lavila", "weights": str(checkpoint), "similarity": "cosine", "download": "none"}
    words = [override("paths.data", str(scratch / "data")), override("+known_models.tiny", model)]
    (entry,) = run_leaderboard([*words, "models=tiny", "benchmarks=epic_mir"])
    if entry.missing:
        raise RuntimeError(entry.missing)
    return entry


def rotated_metrics(data: Path, rotations: int) -> list[dict[str, float]]:
    """Return the mean mAP and nDCG of a trial's banks with the sentences' embeddings turned by random rotations.

    Args:
        data: folder of the trial, with its files and banks.
        rotations: how many.
    """
    folder, banks = data / "epic_kitchens", data / "clep/leaderboard/tiny/epic_mir"
    actions = read_epic_actions(folder / "EPIC_100_retrieval_test.csv")
    sentences = read_epic_sentences(folder / "EPIC_100_retrieval_test_sentence.csv", actions)
    bank = FeatureBank.open(banks / "features.h5")
    index = bank.index(actions.spans.ids)
    kept = torch.nonzero(index >= 0).squeeze(1)
    video = bank.take(bank.first_row[index[kept]])
    texts = FeatureBank.open(next(banks.glob("sentences.*.h5")))
    text = texts.take(torch.from_numpy(distinct_texts(actions.narrations)[1][sentences.clip]))
    classes = actions.classes
    relevancy = mir_relevancy([classes[i] for i in kept.tolist()], [classes[i] for i in sentences.clip])
    has_answer = (relevancy == 1).any(axis=0)
    found = []
    for seed in range(rotations):
        rotation = torch.linalg.qr(torch.randn(video.shape[1], video.shape[1], generator=torch.manual_seed(seed)))[0]
        similarity = normalize(video, dim=1) @ rotation @ normalize(text, dim=1).T
        metrics = mir_metrics(similarity[:, torch.from_numpy(has_answer)], relevancy[:, has_answer])
        found.append({metric: metrics[f"mean/{metric}"] for metric in RANDOM_RANKING})
    return found


def write_noise(path: Path, seconds: float, seed: int) -> None:
    """Write a film of random blocks, another picture in each frame."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 10
        stream.options = {"preset": "ultrafast", "crf": "30"}
        for number in range(int(seconds * FPS) + 1):
            blocks = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(blocks.repeat(SIZE // 4, 0).repeat(SIZE // 4, 1), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    main()
