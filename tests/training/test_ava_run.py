"""Action detection learns what it should: one's own actions from the region, and who watches from the minute."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from clep.data import LongTerm, RegionDataModule, RegionSource
from clep.errors import InputError
from clep.evaluation import AvaRegions, EvaluatorCallback
from clep.evaluation.ava import evaluate_ava
from clep.files import read_json
from clep.models import ActionClassifier
from clep.training import ClassifierModule, adamw, warmup_cosine
from clep.training.tasks import make_action_classifier
from tests.data.tiny_regions import CLASSES, write_regions
from tests.training.tiny_run import tiny_trainer

CONTEXT = LongTerm(window_s=30, per_second=3)
OPERATORS = {"none": "FBONone", "avg": "FBOAvg", "max": "FBOMax", "nl": "FBONonLocal"}


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    write_regions(folder, "train", 24, seed=0)
    write_regions(folder, "held", 4, seed=3)
    write_regions(folder, "val", 8, seed=1, detected=True)
    return folder


def data_of(banks: Path, **options: Any) -> RegionDataModule:
    named = {"label_map": str(banks / "map.txt"), "context": CONTEXT, "batch_size": 64}
    return RegionDataModule(RegionSource(banks / "train.h5"), **(named | options))


def model_of(operator: str, data: RegionDataModule, seed: int = 0) -> ActionClassifier:
    pl.seed_everything(seed, verbose=False)
    options = {} if operator == "none" else {"latent_dim": 16, "dropout": 0.0}
    described = {"_target_": f"clep.models.{OPERATORS[operator]}", "in_dim": None, **options}
    return make_action_classifier({"in_dim": None, "operator": described, "dropout": 0.0, "classes": []}, data)


def module_of(model: ActionClassifier) -> ClassifierModule:
    return ClassifierModule(model, torch.nn.BCEWithLogitsLoss(), lambda m: adamw(m, lr=0.03), warmup_cosine(0.1))


def evaluator_of(banks: Path, **options: Any) -> AvaRegions:
    source = RegionSource(banks / "val.h5", boxes="detected")
    return AvaRegions(source, banks / "val.csv", banks / "map.txt", **options)


def trained(banks: Path, folder: Path, operator: str) -> dict[str, float]:
    data = data_of(banks)
    module = module_of(model_of(operator, data))
    tiny_trainer(folder, max_epochs=6).fit(module, datamodule=data)
    evaluator_of(banks, out=folder / operator).run(module.model)
    return read_json(folder / operator / "per_class.json")


@pytest.mark.slow
def test_the_action_watch_is_found_only_with_the_long_term_context(banks: Path, tmp_path: Path) -> None:
    found = {operator: trained(banks, tmp_path, operator) for operator in OPERATORS}
    for figures in found.values():
        assert all(figures[f"ava/AP/{action}"] > 95 for action in (11, 12, 14, 79))  # seen in the region itself
    without = found.pop("none")["ava/AP/80"]
    assert without < 75  # half of the people watch
    assert all(figures["ava/AP/80"] > without + 15 for figures in found.values())


def test_the_metrics_of_a_run_equal_those_of_its_csv(banks: Path, tmp_path: Path) -> None:
    data = data_of(banks)
    module = module_of(model_of("nl", data))
    evaluator = evaluator_of(banks, out=tmp_path / "out")
    trainer = tiny_trainer(tmp_path, max_epochs=2, callbacks=[EvaluatorCallback({"ava": evaluator})])
    trainer.fit(module, datamodule=data)
    logged = float(trainer.callback_metrics["ava/mAP"])
    rows = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rows[0].split(",")) == 8
    from_file = evaluate_ava(tmp_path / "out" / "results.csv", banks / "val.csv", banks / "map.txt")
    assert from_file["ava/mAP"] == pytest.approx(logged, abs=1e-4)  # Lightning keeps float32
    assert from_file["ava/mAP"] == evaluator.run(module.model)["ava/mAP"]
    assert evaluator.coverage["regions"] == len(evaluator.source.open(CLASSES, CONTEXT))


def test_resumed_equals_uninterrupted(banks: Path, tmp_path: Path) -> None:
    every = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=5)
    data = data_of(banks)
    whole = module_of(model_of("nl", data))
    tiny_trainer(tmp_path, max_epochs=2, callbacks=[every]).fit(whole, datamodule=data)
    data = data_of(banks)
    resumed = module_of(model_of("nl", data, seed=1))
    trainer = tiny_trainer(tmp_path, max_epochs=2)
    trainer.fit(resumed, datamodule=data, ckpt_path=str(tmp_path / "step=5.ckpt"), weights_only=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_held_out_regions_have_a_loss(banks: Path, tmp_path: Path) -> None:
    data = data_of(banks, val=RegionSource(banks / "held.h5"), val_batch_size=1000)
    module = module_of(model_of("avg", data))
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=data)
    logged = float(trainer.callback_metrics["val/loss"])
    assert data.val_set is not None
    whole = data.val_set.__getitems__(list(range(len(data.val_set))))
    with torch.no_grad():
        by_hand = torch.nn.functional.binary_cross_entropy_with_logits(module.model.eval()(whole), whole["target"])
    assert logged == pytest.approx(float(by_hand), rel=1e-5)


def test_what_does_not_belong_to_the_model_is_refused(banks: Path, tmp_path: Path) -> None:
    data = data_of(banks)
    model = model_of("nl", data)
    write_regions(tmp_path, "val", 4, seed=1, detected=True, encoder="other")
    other = RegionSource(tmp_path / "val.h5", boxes="detected")
    with pytest.raises(InputError, match="trained on features of 'tiny', but this bank holds features of 'other'"):
        AvaRegions(other, tmp_path / "val.csv").run(model)
    evaluator = evaluator_of(banks)
    mixed = RegionSource(banks / "val.h5", context_bank=tmp_path / "val.h5", boxes="detected")
    with pytest.raises(InputError, match=r"a context of 'tiny', and .*val\.h5 holds features of 'other'"):
        AvaRegions(mixed, evaluator.groundtruth).run(model)
    (tmp_path / "short_term.csv").write_text("v0,900,0.1,0.1,0.3\n")
    with pytest.raises(InputError, match=r"^\S*short_term\.csv, line 1 has 5 columns"):
        AvaRegions(evaluator.source, tmp_path / "short_term.csv", banks / "map.txt").run(model)
    with pytest.raises(InputError, match="choose short_term=bank, or short_term=clips"):
        make_action_classifier({"operator": {}, "short_term": {"_target_": "clep.models.RegionEncoder"}}, data)
