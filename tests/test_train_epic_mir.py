"""`experiment=epic_mir` from official files to retrieval figures, in this process."""

import sys
from pathlib import Path

import numpy as np
import pytest

from clep.bank import BankWriter, Clock
from clep.evaluate import evaluate
from clep.extraction import text as text_rows
from clep.files import read_json
from clep.train import main
from tests.evaluation.test_epic_mir import Clip, write_epic
from tests.preprocess.conftest import FakeEncoder

DIM = 9


class ActionEncoder(FakeEncoder):
    """Embeds a sentence as the number of times that each word occurs in it, so that there is something to learn."""

    words = ("take", "put", "wash", "cut", "plate", "knife", "pan", "tap", "onion")

    def __init__(self) -> None:
        super().__init__()
        self.dim = DIM

    def stream(self, texts, chunk=8192, progress=True):
        yield 0, np.array([[text.split().count(word) for word in self.words] for text in texts], np.float32)


def write_inputs(root: Path) -> dict[str, list[Clip]]:
    """Write EPIC-KITCHENS' files, and a bank of the videos whose rows show what is narrated."""
    folder = root / "epic_kitchens"
    folder.mkdir(parents=True)
    found, rows = {}, {}
    for split, seed in (("train", 1), ("retrieval_test", 2)):
        clips, _ = write_epic(folder, clips=90, seed=seed)
        text = (folder / "clips.csv").read_text()
        text = text.replace("P01", "P09") if split == "retrieval_test" else text
        (folder / f"EPIC_100_{split}.csv").write_text(text)
        person = "P09" if split == "retrieval_test" else "P01"
        sentences = (folder / "sentences.csv").read_text().replace("P01", "P09")
        (folder / "EPIC_100_retrieval_test_sentence.csv").write_text(sentences)
        for number, (_, _, verb, nouns) in enumerate(clips):
            block = rows.setdefault(f"{person}_{number % 3:02d}", np.zeros((31, DIM), np.float32))
            block[number // 3, [verb, *(4 + noun for noun in nouns)]] = 1
        found[split] = clips
    random = np.random.default_rng(0)
    mixing = random.standard_normal((DIM, 16)).astype(np.float32)
    with BankWriter(root / "clep/epic_kitchens/features.h5", 16, Clock(1.0, 1.0), "float32", "tiny") as writer:
        for video, block in rows.items():
            writer.add(video, block @ mixing + 0.1 * random.standard_normal((31, 16)).astype(np.float32))
    return found


def write_clip_banks(root: Path, found: dict[str, list[Clip]]) -> dict[str, str]:
    """Write a bank of the training clips and one of the test clips, by narration id, as the job clips does."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((DIM, 16)).astype(np.float32)
    for split, clips in found.items():
        with BankWriter(root / f"{split}_clips.h5", 16, Clock.irregular(0.0), "float32", "tiny") as writer:
            for name, _, verb, nouns in sorted(clips):
                shown = np.zeros(DIM, np.float32)
                shown[[verb, *(4 + noun for noun in nouns)]] = 1
                row = shown @ mixing + 0.1 * random.standard_normal(16).astype(np.float32)
                name = name.replace("P01", "P09") if split == "retrieval_test" else name
                writer.add(name, row[None], np.array([0.5]), duration_s=1.0)
    return {split: str(root / f"{split}_clips.h5") for split in found}


@pytest.mark.parametrize("rows", ["of_videos", pytest.param("of_clips", marks=pytest.mark.slow)])
def test_it_learns_to_retrieve_and_is_measured_again_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    found = write_inputs(tmp_path)
    test_bank, words = f"{tmp_path}/clep/epic_kitchens/features.h5", []
    if rows == "of_clips":
        Path(test_bank).unlink()
        banks = write_clip_banks(tmp_path, found)
        test_bank = banks["retrieval_test"]
        words = [f"data.sources.ego4d.bank={banks['train']}", f"evaluator.epic_mir.bank={test_bank}"]
    monkeypatch.setattr(text_rows, "load_encoder", lambda name, device, batch_size: ActionEncoder())
    monkeypatch.setenv("CLEP_RUN_ID", "one")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    words += [
        *("experiment=epic_mir", f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"),
        *("text_encoder=fake", "video_encoder=tiny", "prepare.epic_kitchens.video_info=null"),
        *("logger=none", "report=null"),
        *("data.sources.ego4d.val_fraction=0.3", "data.batch_size=24", "evaluator.retrieval.size=20"),
        *("trainer.max_epochs=12", "optim.optimizer.lr=0.01", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"),
        *(
            f"model.{side}.{key}={value}"
            for side in ("video", "text")
            for key, value in (("hidden_dim", 32), ("out_dim", 16))
        ),
        *("hydra/job_logging=none", "hydra/hydra_logging=none", "callbacks.progress=null"),
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    main()
    run = tmp_path / "runs" / "epic_mir" / "one"
    metrics = read_json(run / "metrics.json")
    assert metrics["ek100_mir/mean/mAP"] > 60
    assert metrics["ek100_mir/mean/nDCG"] > 60
    # Whole videos are held out, also where each clip has a row of its own.
    assert read_json(run / "coverage.json")["data"]["ego4d"]["held-out videos"] == 1
    again = evaluate(run, ["evaluator=epic_mir", f"evaluator.epic_mir.bank={test_bank}"])
    assert again["ek100_mir/mean/mAP"] == pytest.approx(metrics["ek100_mir/mean/mAP"], abs=1e-3)
