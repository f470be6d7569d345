"""The small files that the examples of the API reference read, with the names they have there."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from clep.bank import BankWriter
from clep.models import DualEncoder
from clep.text import Narrations, SentenceEncoder
from tests.tiny_sentence_model import tiny_sentence_model
from tests.tiny_source import VIDEO_DIM, write_tiny_files
from tests.video.encoders import tiny_models
from tests.video.encoders.test_videomae_v2 import checkpoint
from tests.video.made_videos import regular, write_video

TEXT_DIM = 16
WINDOW = {"align": "centre", "pool": "mean", "max_rows": 16, "sample": "uniform"}


def copy_example_files(folder: Path) -> None:
    """Link the files into a folder; they are made once a process."""
    shutil.copytree(_made_once().name, folder, dirs_exist_ok=True, copy_function=os.link)


@functools.cache
def _made_once() -> tempfile.TemporaryDirectory:
    made = tempfile.TemporaryDirectory(prefix="clep-tests-")
    folder = Path(made.name)
    torch.manual_seed(0)
    write_tiny_files(folder, name="kitchen")
    (folder / "bank.h5").rename(folder / "features.h5")
    Path(tiny_sentence_model(folder / "made")).rename(folder / "sentences")
    shutil.rmtree(folder / "made")
    narrations = Narrations.open(folder / "narrations.arrow")
    rows = SentenceEncoder(str(folder / "sentences"), device="cpu").encode(list(narrations.texts))
    with BankWriter(folder / "texts.h5", TEXT_DIM, None, "float32", "sentences", narrations.digest) as writer:
        writer.add("texts", rows)
    _write_model(folder / "model")
    shades = np.linspace(40, 200, 40).astype(np.uint8)
    pictures = [np.full((64, 96, 3), shade, np.uint8) for shade in shades]
    write_video(folder / "kitchen.mp4", regular(40, 10), rate=10, pictures=pictures)
    (folder / "verbs.csv").write_text("label,group\nopen,['open']\nwash,\"['wash', 'rinse']\"\n")
    (folder / "nouns.csv").write_text("label,group\ncup,\"['cup', 'mug']\"\ndoor,['door']\n")
    tiny_models.timesformer(folder / "timesformer")
    tiny_models.videomae(folder / "videomae", tuned=True)
    tiny_models.vjepa2(folder / "vjepa2", tuned=False)
    tiny_models.clip(folder / "clip")
    torch.save({"module": checkpoint()}, folder / "videomae_v2.pth")
    return made


def _write_model(folder: Path) -> None:
    """Write a dual encoder of random weights for the bank `features.h5` and the sentence encoder `sentences`."""
    head = {"_target_": "clep.models.ProjectionHead", "hidden_dim": 16, "out_dim": 8}
    model = DualEncoder.from_config({"video": {**head, "in_dim": VIDEO_DIM}, "text": {**head, "in_dim": TEXT_DIM}})
    model.metadata = {"sentence_encoder": "sentences", "tag_style": "clean", "bank_encoder": "tiny", "window": WINDOW}
    model.save_pretrained(folder)
