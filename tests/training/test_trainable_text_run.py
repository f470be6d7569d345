"""A run that trains the sentence encoder: it learns, resumes, is measured by its own words, and is used afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import clep
from clep.data import MomentDataModule, TextTokens
from clep.evaluation import EvaluatorCallback, KineticsZeroShot, NarrationRetrieval
from clep.files import read_json
from clep.losses import ClipLoss
from clep.metrics import retrieval_metrics, topk_accuracy
from clep.models import DualEncoder
from clep.text import Narrations
from clep.training import ContrastiveModule, adamw, warmup_cosine
from tests.evaluation.tiny_clips import WORDS, model_for, write_kinetics
from tests.tiny_sentence_model import tiny_sentence_model
from tests.tiny_source import VIDEO_DIM, tiny_source
from tests.training.tiny_run import tiny_trainer

TOKENS = 20


def live_model(path: str, **metadata: Any) -> DualEncoder:
    pl.seed_everything(0, verbose=False)
    video = {"_target_": "clep.models.ProjectionHead", "in_dim": VIDEO_DIM, "hidden_dim": 16, "out_dim": 6}
    text = {"_target_": "clep.models.SentenceTower", "encoder": path, "out_dim": 6, "max_tokens": TOKENS}
    return DualEncoder.from_config({"video": video, "text": text, "metadata": metadata})


def live_module(path: str, **options: Any) -> ContrastiveModule:
    def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
        return adamw(model, lr=0.01, lr_factors={"text.encoder": 0.1})

    return ContrastiveModule(live_model(path), ClipLoss(), optimizer, warmup_cosine(0.1), **options)


def live_data(folder: Path, path: str, **options: Any) -> MomentDataModule:
    tokens = TextTokens(path, TOKENS)
    return MomentDataModule({"a": tiny_source(folder, val_fraction=0.28)}, batch_size=20, tokens=tokens, **options)


def test_it_learns_and_a_continued_run_ends_the_same(tmp_path: Path) -> None:
    path = tiny_sentence_model(tmp_path / "base", dropout=0.1)
    every = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=5)
    module = live_module(path, chunk_size=6, ema=0.9)
    before = {name: value.clone() for name, value in module.model.text.named_parameters()}
    trainer = tiny_trainer(tmp_path, callbacks=[every], max_epochs=2)
    trainer.fit(module, datamodule=live_data(tmp_path / "f", path))
    same = [name for name, value in module.model.text.named_parameters() if torch.equal(value, before[name])]
    assert not [name for name in same if "token_type" not in name and "key.bias" not in name]
    rates = {group["initial_lr"] for group in module.optimizers().param_groups}
    assert rates == {0.01, 0.001}
    resumed = live_module(path, chunk_size=6, ema=0.9)
    data = live_data(tmp_path / "f", path, num_workers=1)
    trainer = tiny_trainer(tmp_path, max_epochs=2)
    trainer.fit(resumed, datamodule=data, ckpt_path=tmp_path / "step=10.ckpt", weights_only=True)
    for name, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    # A checkpoint alone is a model that embeds sentences; it does not need the encoder's folder.
    Path(path).rename(tmp_path / "gone")
    loaded = clep.load(tmp_path / "step=5.ckpt", "cpu")
    assert loaded.embed_text(["#C C opens the door"]).shape == (1, 6)


def test_evaluators_encode_sentences_with_the_trained_encoder(tmp_path: Path) -> None:
    """Figures from every sentence embedded on its own, not from the frozen embeddings beside it."""
    model = live_model(tiny_sentence_model(tmp_path / "base"), bank_encoder="tiny", sentence_encoder=WORDS).eval()
    source = tiny_source(tmp_path / "f", val_fraction=0.3)
    found = NarrationRetrieval(source, batch_size=7).run(model)
    _, held_out = source.open(clep.data.Window())
    texts = Narrations.open(source.narrations_path).texts
    with torch.no_grad():
        video = model.encode_video(held_out.__getitems__(list(range(len(held_out)))))
        text = torch.cat([model.encode_sentences([texts[i]]) for i in held_out.moments.text_id.tolist()])
    text_id = torch.from_numpy(held_out.moments.text_id)
    expected = retrieval_metrics(video @ text.T, text_id[:, None] == text_id[None, :])
    for name, value in expected.items():
        assert found[f"val/retrieval/v2t/{name}"] == pytest.approx(value, abs=1e-3), name

    kinetics = write_kinetics(tmp_path / "kinetics")
    found = KineticsZeroShot(kinetics.folder, WORDS).run(model)
    sentences = read_json(kinetics.folder / "prompts.json")["sets"]["prompt"]
    with torch.no_grad():
        classes = torch.stack([model.encode_sentences(of_class).mean(0) for of_class in sentences])
        kept = [index for index, name in enumerate(kinetics.clips.ids) if name in kinetics.rows]
        rows = np.stack([kinetics.rows[kinetics.clips.ids[index]].mean(0) for index in kept])
        scores = model.encode_video({"video": torch.from_numpy(rows)}) @ torch.nn.functional.normalize(classes).T
    accuracy = topk_accuracy(scores, torch.as_tensor(kinetics.clips.label)[kept], ks=(1,))
    assert found["zeroshot/kinetics/top1"] == pytest.approx(accuracy[1])
    assert KineticsZeroShot(kinetics.folder, WORDS).run(model_for()).keys() == found.keys()


def test_validation_runs_the_evaluators_during_training(tmp_path: Path) -> None:
    path = tiny_sentence_model(tmp_path / "base")
    module = live_module(path)
    evaluation = EvaluatorCallback({"retrieval": NarrationRetrieval(tiny_source(tmp_path / "f", val_fraction=0.28))})
    trainer = tiny_trainer(tmp_path, callbacks=[evaluation], max_epochs=1)
    trainer.fit(module, datamodule=live_data(tmp_path / "f", path))
    assert 0 <= trainer.callback_metrics["val/retrieval/t2v/r1"] <= 100
    assert module.model.training
