"""A published model's two banks compared without heads: trained for no epoch, saved, loaded, searched, or refused."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import clep
from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from clep.extraction.text import TextBank
from clep.models import JointSpace, load_model
from clep.models.published import load_published
from clep.text import Narrations, sentence_model_name
from clep.train import main
from clep.weights import published_name
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.tiny_checkpoints import DIM, SIZES, args, save
from tests.tiny_source import write_tiny_files

WORDS = ["C", "opens", "closes", "takes", "washes", "the", "door", "cup", "fridge", "knife", "pan", "tap", "again"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with a tiny LaViLa, its sizes and a tokenizer of a few words."""
    folder = tiny.words_tokenizer(tmp_path / "lavila", WORDS)
    (folder / "tsf.json").write_text(json.dumps(SIZES))
    save(folder / "tsf.pt", tiny.lavila(), args=args())
    return folder


def banks(folder: Path, weights: Path) -> Path:
    """Write narrations, the bank of their embeddings and a bank of random rows in the space of the model."""
    write_tiny_files(folder, videos=8, per_video=6)
    narrations = Narrations.open(folder / "narrations.arrow")
    bank = TextBank(folder, "texts", {"texts": narrations.texts}, f"lavila:{weights}", narrations.digest)
    bank.write(device="cpu")
    with BankWriter(folder / "rows.h5", DIM, Clock(), "float32", encoder=published_name("lavila", weights)) as writer:
        for video in range(8):
            rows = np.random.default_rng(video).standard_normal((111, DIM)).astype(np.float32)
            writer.add(f"v{video:02d}", rows, duration_s=60.0)
    return bank.path


def run(folder: Path, texts: Path, *words: str, bank: str = "rows.h5") -> Path:
    """Call `train.py` in this process on the files of a folder; return the folder of the run."""
    with pytest.MonkeyPatch.context() as patch:
        files = {"narrations": folder / "narrations.arrow", "texts": texts, "bank": folder / bank}
        source = [f"data.sources.ego4d.{key}={path}" for key, path in files.items()]
        given = [
            "experiment=ego4d_clip",
            "prepare=none",
            "evaluator=retrieval",
            "logger=none",
            "trainer.accelerator=cpu",
        ]
        given += ["data.sources.ego4d.val_fraction=0.4", "data.batch_size=8", "hydra/job_logging=none"]
        paths = [f"paths.data={folder}", f"paths.runs={folder / 'runs'}", "name=joint"]
        patch.setattr(sys, "argv", ["train.py", *given, *source, *paths, *words])
        patch.setenv("CLEP_RUN_ID", "a")
        main()
    return folder / "runs" / "joint" / "a"


def test_a_published_model_is_measured_saved_loaded_and_searched(tmp_path: Path, weights: Path) -> None:
    texts = banks(tmp_path, weights)
    name = published_name("lavila", weights)
    assert texts.name == f"texts.{name}.h5"
    assert FeatureBank.open(texts).encoder == name == sentence_model_name(f"lavila:{weights}")
    published = load_published("lavila", weights)
    sentences = list(Narrations.open(tmp_path / "narrations.arrow").texts)
    tokens = published.tokenize(sentences)
    expected = published.encode_text(tokens.ids, tokens.mask, normalize=False)
    torch.testing.assert_close(FeatureBank.open(texts).video_rows("texts"), expected, atol=1e-5, rtol=1e-5)

    encoders = [f"text_encoder=lavila:{weights}", f"video_encoder={name}"]
    folder = run(tmp_path, texts, "model=joint_space", *encoders, "trainer.max_epochs=0")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["val/retrieval/v2t/r10"] <= 100
    loaded = clep.load(folder, device="cpu")
    assert isinstance(loaded.encoder, JointSpace)
    assert loaded.encoder.logit_scale.item() == pytest.approx(math.exp(2.5))  # the file's
    unit = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(loaded.embed_text(sentences), unit, atol=1e-5, rtol=1e-5)
    bank = FeatureBank.open(tmp_path / "rows.h5")
    hits = loaded.search(bank, "C opens the door", top=3)
    assert len(hits) == 3
    row = bank.video_rows(hits[0].video)[0:1].mean(0)
    assert loaded.encoder.encode_video({"video": row[None]}).norm() == pytest.approx(1)


def test_heads_train_on_top_of_a_published_model(tmp_path: Path, weights: Path) -> None:
    texts = banks(tmp_path, weights)
    towers = [f"model.{side}.{key}" for side in ("video", "text") for key in ("hidden_dim=8", "out_dim=6")]
    name = published_name("lavila", weights)
    encoders = [f"text_encoder=lavila:{weights}", f"video_encoder={name}"]
    folder = run(tmp_path, texts, *towers, *encoders, "trainer.max_epochs=1")
    assert load_model(folder).metadata["text_bank_encoder"] == name


def test_texts_of_another_model_than_the_videos_are_refused(tmp_path: Path, weights: Path) -> None:
    bank, texts = published_name("lavila", weights), "lavila-00000000"
    with pytest.raises(InputError, match=rf"rows of '{bank}'.*embeddings of '{texts}'.*model=mlp"):
        JointSpace(metadata={"bank_encoder": bank, "text_bank_encoder": texts})
    model = JointSpace(metadata={"bank_encoder": f"{bank}-16f", "text_bank_encoder": bank})  # other frames: one space
    with pytest.raises(InputError, match=f"rows of '{bank}-16f'.*embeddings of '{texts}'"):
        model.check_sentence_encoder(texts)
    alone = JointSpace()
    alone.check_bank(f"{bank}-features")
    with pytest.raises(InputError, match=f"rows of '{bank}-features'.*encoder.output=joint"):
        alone.check_sentence_encoder(bank)


def test_scale_and_bias_of_the_weights(tmp_path: Path) -> None:
    siglip = tmp_path / "open_clip_model.pt"
    torch.save(tiny.siglip2(), siglip)
    model = JointSpace(f"siglip2:{siglip}")
    assert model.logit_scale.item() == pytest.approx(math.exp(4.7))  # above CLIP's limit of 100
    assert model.logit_bias.item() == pytest.approx(-16.5)
    egovlp = JointSpace(f"egovlp:{save(tmp_path / 'egovlp.pth', tiny.egovlp())}")
    assert (egovlp.logit_scale.item(), egovlp.logit_bias) == (1.0, None)
    assert JointSpace("all-mpnet-base-v2").logit_scale.item() == 1.0
    again = JointSpace.from_config(JointSpace.from_config({"weights": f"siglip2:{siglip}"}).config)
    assert again.logit_bias.item() == pytest.approx(-16.5)
    with pytest.raises(InputError, match="lavila_missing.pt: there is no such file"):
        JointSpace(f"lavila:{tmp_path / 'lavila_missing.pt'}")
