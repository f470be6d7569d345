"""The small files that the examples of the API reference read, with the names they have there."""

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense

from clep.bank import BankWriter
from clep.models import DualEncoder
from clep.text import Narrations, SentenceEncoder
from tests.colour_films import write_films
from tests.data.tiny_regions import write_regions
from tests.evaluation.test_classification import write_egtea
from tests.evaluation.test_egomcq import VIDEOS, sentences_of, write_questions
from tests.evaluation.test_epic_mir import write_banks, write_epic
from tests.evaluation.tiny_benchmarks import write_rows, write_sentences
from tests.evaluation.tiny_clips import ENCODER, WORDS, write_ego_charades, write_kinetics
from tests.models.published import tiny_checkpoints
from tests.tiny_sentence_model import tiny_sentence_model
from tests.tiny_source import TEXT_DIM, VIDEO_DIM, write_tiny_files
from tests.video.encoders import tiny_models
from tests.video.encoders.test_videomae_v2 import checkpoint
from tests.video.made_videos import regular, write_video

VERBS = ("opens", "closes", "takes", "washes")
WINDOW = {"align": "centre", "pool": "mean", "max_rows": 16, "sample": "uniform"}
CAPTION_WORDS = ["#", "C", "opens", "washes", "the", "fridge", "cup"]


def copy_example_files(folder: Path) -> None:
    """Link the files into a folder, or copy them to another file system; they are made once a process."""
    made = _made_once().name
    copy = os.link if Path(made).stat().st_dev == folder.stat().st_dev else shutil.copy2
    shutil.copytree(made, folder, dirs_exist_ok=True, copy_function=copy)


@functools.cache
def _made_once() -> tempfile.TemporaryDirectory:
    made = tempfile.TemporaryDirectory(prefix="clep-tests-")
    folder = Path(made.name)
    torch.manual_seed(0)
    _write_sentence_model(folder)
    _write_narrations(folder)
    _write_dual_encoder(folder / "model")
    _write_encoders(folder)
    _write_films(folder)
    _write_tables(folder)
    _write_benchmarks(folder)
    (folder / "verbs.csv").write_text("label,group\nopen,['open']\nwash,\"['wash', 'rinse']\"\n")
    (folder / "nouns.csv").write_text("label,group\ncup,\"['cup', 'mug']\"\ndoor,['door']\n")
    return made


def _write_sentence_model(folder: Path) -> None:
    """Write a sentence encoder of the dimension of the tests' text banks."""
    made = SentenceTransformer(tiny_sentence_model(folder / "made", normalize=False), device="cpu")
    made.append(Dense(16, TEXT_DIM))
    made.save(str(folder / WORDS))
    shutil.rmtree(folder / "made")


def _write_narrations(folder: Path) -> None:
    """Write narration.json, narrations.arrow, features.h5 and the embeddings of the distinct texts."""
    write_tiny_files(folder, name="kitchen")
    (folder / "bank.h5").rename(folder / "features.h5")
    narrations = Narrations.open(folder / "narrations.arrow")
    rows = SentenceEncoder(str(folder / WORDS), device="cpu").encode(list(narrations.texts))
    with BankWriter(folder / "texts.h5", TEXT_DIM, None, "float32", WORDS, narrations.digest) as writer:
        writer.add("texts", rows)


def _write_dual_encoder(folder: Path) -> None:
    head = {"_target_": "clep.models.ProjectionHead", "hidden_dim": 16, "out_dim": 8}
    model = DualEncoder.from_config({"video": {**head, "in_dim": VIDEO_DIM}, "text": {**head, "in_dim": TEXT_DIM}})
    model.metadata = {"sentence_encoder": WORDS, "tag_style": "clean", "bank_encoder": ENCODER, "window": WINDOW}
    model.save_pretrained(folder)


def _write_encoders(folder: Path) -> None:
    tiny_models.timesformer(folder / "timesformer")
    tiny_models.videomae(folder / "videomae", tuned=True)
    tiny_models.vjepa2(folder / "vjepa2", tuned=False)
    tiny_models.clip(folder / "clip")
    torch.save({"module": checkpoint()}, folder / "videomae_v2.pth")
    published = tiny_checkpoints.words_tokenizer(folder / "lavila", CAPTION_WORDS)
    tiny_checkpoints.save(published / "tsf.pt", tiny_checkpoints.lavila(), args=tiny_checkpoints.args())
    (published / "tsf.json").write_text(json.dumps(tiny_checkpoints.SIZES))


def _write_films(folder: Path) -> None:
    """Write kitchen.mp4, 4 s at 10 frames a second that grow lighter, and six labelled films of one colour each."""
    shades = np.linspace(40, 200, 40).astype(np.uint8)
    pictures = [np.full((64, 96, 3), shade, np.uint8) for shade in shades]
    write_video(folder / "kitchen.mp4", regular(40, 10), rate=10, pictures=pictures)
    write_films(folder / "films", 6)


def _write_tables(folder: Path) -> None:
    """Write tables of labelled clips, of queries and of questions about the videos of features.h5."""
    spans = [f"kitchen{number % 12:02d},{2 * number},{2 * number + 4}" for number in range(24)]
    verbs = [VERBS[number % 4] for number in range(24)]
    clips = [f"{span},{verb}" for span, verb in zip(spans, verbs, strict=True)]
    queries = [f"{span},{verb} the cup" for span, verb in zip(spans, verbs, strict=True)]
    questions = [f"{span},opens the door|washes the cup,{index % 2}" for index, span in enumerate(spans)]
    questions[0] = "kitchen00,2,6,opens the door|washes the cup,0"
    for name, header, lines in (
        ("clips", "label", clips),
        ("queries", "query", queries),
        ("questions", "choices,answer", questions),
    ):
        (folder / f"{name}.csv").write_text("\n".join([f"video,start,end,{header}", *lines]) + "\n")


def _write_benchmarks(folder: Path) -> None:
    """Write each benchmark into a folder of its own, with random features and embeddings."""
    random = np.random.default_rng(0)
    for name in ("kinetics", "ego_charades", "epic", "egtea", "egomcq"):
        (folder / name).mkdir()
    write_kinetics(folder / "kinetics")
    write_ego_charades(folder / "ego_charades")
    clips_of_epic, _ = write_epic(folder / "epic")
    write_banks(folder / "epic", clips_of_epic)
    of_class = {f"{verb}:{nouns[0]}:{text}": text for _, text, verb, nouns in clips_of_epic}
    sentences = dict.fromkeys(of_class[name] for name in sorted(of_class, key=lambda name: name.split(":")[:2]))
    write_sentences(folder / "epic/classes.h5", list(sentences), random)
    clips = write_egtea(folder / "egtea")
    write_rows(folder / "egtea/features.h5", [name for name, _ in clips], random)
    write_sentences(folder / "egtea/sentences.h5", [f"do thing {i}" for i in range(6)], random)
    questions = write_questions(folder / "egomcq")
    write_rows(folder / "egomcq/features.h5", VIDEOS, random, rows=12)
    write_sentences(folder / "egomcq/sentences.h5", sentences_of(questions), random)
    write_regions(folder / "ava", "train", 4, seed=0)
    write_regions(folder / "ava", "val", 2, seed=1, detected=True)
