"""The files that a batch passes from sampler to loss: few, and those that docs/architecture.md lists."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

import clep
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer

PACKAGE = Path(clep.__file__).parent
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"


class RecordFiles(pl.Callback):
    """Record the modules of clep whose functions run from the end of one step to the loss of the next."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            sys.setprofile(self._record)

    def stop(self) -> None:
        sys.setprofile(None)

    def _record(self, frame: Any, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            self.files.add(str(path.relative_to(PACKAGE)))


@pytest.mark.skipif(not ARCHITECTURE.is_file(), reason="an installed package has no docs")
def test_a_batch_passes_the_twelve_files_that_the_docs_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, record = tiny_module(), RecordFiles()
    compute_loss = module.compute_loss

    def compute_and_stop(batch: dict[str, Any]) -> Any:
        loss = compute_loss(batch)
        record.stop()
        return loss

    monkeypatch.setattr(module, "compute_loss", compute_and_stop)
    try:
        tiny_trainer(tmp_path, max_epochs=1, callbacks=[record]).fit(module, datamodule=tiny_data(tmp_path / "files"))
    finally:
        record.stop()
    section = ARCHITECTURE.read_text(encoding="utf-8").split("## A batch")[1].split("\n## ")[0]
    path = record.files - {"training/base.py"}  # the base class around the step
    assert path == set(re.findall(r"^\| `(\S+\.py)` \|", section, flags=re.MULTILINE))
    assert len(path) <= 12
