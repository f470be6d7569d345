"""A run whose video tower sees the minute around a moment: it learns from it, resumes, and is measured and used."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import clep
from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import LongTerm, MomentDataModule, Window
from clep.evaluation import EgoCharadesZeroShot, KineticsZeroShot, NarrationRetrieval
from clep.losses import ClipLoss
from clep.models import DualEncoder
from clep.text import Narrations
from clep.training import ContrastiveModule, adamw, warmup_cosine
from tests.evaluation.tiny_clips import WORDS, write_ego_charades, write_kinetics
from tests.tiny_source import TEXT_DIM, VIDEO_DIM, tiny_source, write_tiny_files
from tests.training.tiny_run import tiny_trainer

CONTEXT = LongTerm(window_s=20, per_second=1)
OPERATORS = ["FBONonLocal", "FBOAvg", "FBOMax", "FBONone"]


def long_term_model(operator: str = "FBONonLocal", dropout: float = 0.2, **metadata: Any) -> DualEncoder:
    pl.seed_everything(0, verbose=False)
    options = {} if operator == "FBONone" else {"latent_dim": 10, "dropout": dropout}
    video = {"in_dim": VIDEO_DIM, "out_dim": 6, "hidden_dim": 16, "dropout": dropout}
    video["operator"] = {"_target_": f"clep.models.{operator}", "in_dim": VIDEO_DIM, **options}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": TEXT_DIM, "hidden_dim": 16, "out_dim": 6}
    towers = {"video": {"_target_": "clep.models.LongTermTower", **video}, "text": text}
    return DualEncoder.from_config({**towers, "metadata": metadata})


def long_term_module(*options: Any, lr: float = 0.01, **named: Any) -> ContrastiveModule:
    model = long_term_model(*options, **named)
    return ContrastiveModule(model, ClipLoss(), lambda model: adamw(model, lr=lr), warmup_cosine(0.1))


def long_term_data(folder: Path, **options: Any) -> MomentDataModule:
    sources = {"tiny": tiny_source(folder, val_fraction=0.28)}
    return MomentDataModule(sources, **{"batch_size": 20, "context": CONTEXT, **options})


@pytest.mark.parametrize(
    ("operator", "workers"),
    [
        ("FBONonLocal", 0),
        ("FBOMax", 2),
        pytest.param("FBONonLocal", 2, marks=pytest.mark.slow),
        pytest.param("FBOMax", 0, marks=pytest.mark.slow),
    ],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, operator: str, workers: int) -> None:
    data = {"window": Window(pool="rows", max_rows=3, sample="random")}
    whole, every = (
        long_term_module(operator),
        pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=5),
    )
    tiny_trainer(tmp_path, callbacks=[every]).fit(whole, datamodule=long_term_data(tmp_path / "files", **data))
    resumed = long_term_module(operator)
    tiny_trainer(tmp_path).fit(
        resumed,
        datamodule=long_term_data(tmp_path / "files", num_workers=workers, **data),
        ckpt_path=tmp_path / "step=10.ckpt",
        weights_only=True,
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def plant_the_past(folder: Path, seconds_ago: float = 8.0) -> None:
    """Write a bank in which what a narration says was to be seen some seconds before it, and noise when it is said."""
    narrations = Narrations.open(folder / "narrations.arrow")
    texts = FeatureBank.open(folder / "texts.h5").video_rows("texts").numpy()
    random = np.random.default_rng(1)
    (folder / "bank.h5").unlink()
    with BankWriter(folder / "bank.h5", VIDEO_DIM, Clock(), "float32", encoder="tiny") as writer:
        for number, uid in enumerate(narrations.videos):
            rows = 0.1 * random.standard_normal((111, VIDEO_DIM)).astype(np.float32)
            mine = np.asarray(narrations.video) == number
            for second, text in zip(narrations.second[mine], narrations.text_id[mine], strict=True):
                if second > seconds_ago:
                    rows[int((second - seconds_ago) * 1.875), :TEXT_DIM] = 2 * texts[text]
            writer.add(uid, rows, duration_s=60.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_earlier_events_are_learned_only_through_the_context(tmp_path: Path, operator: str) -> None:
    write_tiny_files(tmp_path, videos=100, per_video=3)
    plant_the_past(tmp_path)
    data = long_term_data(tmp_path, context=LongTerm(18, 2), batch_size=64, val_batch_size=32)
    trainer = tiny_trainer(tmp_path, max_epochs=15, check_val_every_n_epoch=15)
    trainer.fit(long_term_module(operator, dropout=0.0, lr=0.03), datamodule=data)
    trained, held_out = (float(trainer.callback_metrics[name]) for name in ("train/loss", "val/loss"))
    if operator == "FBONone":
        assert trained > math.log(64) - 0.1
        assert held_out > math.log(32) - 0.05
    else:
        assert trained < math.log(64) - 0.4
        assert held_out < math.log(32) - 0.2


def test_evaluation_and_loading_use_the_context_of_training(tmp_path: Path) -> None:
    data = long_term_data(tmp_path / "files")
    data.setup()
    model = long_term_model(**data.metadata(WORDS)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    model.save_pretrained(tmp_path / "model")
    loaded = clep.load(tmp_path / "model", device="cpu")
    assert loaded.context == LongTerm(20, 1, sample="first")

    held_out = data.val_set
    moments, which = held_out.moments, list(range(25))
    expected = model.encode_video(held_out.__getitems__(which)).detach()
    ids = [held_out.bank.videos[moments.video[index]] for index in which]
    found = loaded.embed_video(held_out.bank, ids, moments.start_s[which], moments.end_s[which], batch_size=7)
    torch.testing.assert_close(found, expected)

    retrieval = NarrationRetrieval(tiny_source(tmp_path / "files", val_fraction=0.28), batch_size=11)
    metrics = retrieval.run(model)
    gallery = held_out.__getitems__(list(range(len(held_out))))
    similarity = (model.encode_video(gallery) @ model.encode_text(gallery).T).detach()
    best = gallery["text_id"][similarity.argmax(1)]
    assert metrics["val/retrieval/v2t/r1"] == pytest.approx(100 * (best == gallery["text_id"]).float().mean().item())


@pytest.mark.parametrize("kind", ["kinetics", "ego_charades"])
def test_a_zero_shot_clip_is_its_own_context(tmp_path: Path, kind: str) -> None:
    write, evaluator = {
        "kinetics": (write_kinetics, KineticsZeroShot),
        "ego_charades": (write_ego_charades, EgoCharadesZeroShot),
    }[kind]
    tiny = write(tmp_path)
    context = {"window_s": 20, "per_second": 2, "sample": "random"}
    model = long_term_model(bank_encoder="tiny", sentence_encoder=WORDS, context=context).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    _, kept, scores = evaluator(str(tmp_path), WORDS, batch_size=7).scores(model)
    name = next(iter(scores))
    templates = torch.from_numpy(tiny.prompts[name])
    texts = model.encode_text({"text": templates.flatten(0, 1)}).unflatten(0, templates.shape[:2]).mean(1)
    classes = torch.nn.functional.normalize(texts, dim=-1)
    for row, index in enumerate(kept):
        rows = torch.from_numpy(tiny.rows[tiny.clips.ids[index]])[None]
        whole = {"context": rows, "context_mask": torch.ones(rows.shape[:2], dtype=torch.bool)}
        video = model.encode_video({"video": rows.mean(1), **whole})[0]
        torch.testing.assert_close(scores[name][row], (classes @ video).detach(), rtol=1e-4, atol=1e-5)
    assert evaluator(str(tmp_path), WORDS).run(model) == pytest.approx(
        evaluator(str(tmp_path), WORDS, batch_size=3).run(model)
    )
