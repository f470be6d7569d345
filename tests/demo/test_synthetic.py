"""The base class: digests, folders that are reused, continued or refused, and settings from plain values."""

import json
import threading
from dataclasses import dataclass, field, replace

import pytest

from clep.demo import (
    EncoderSettings,
    SyntheticAVA,
    SyntheticDataset,
    SyntheticEgo4D,
    SyntheticFeatures,
    SyntheticLongTerm,
    SyntheticObjectives,
    SyntheticVideos,
    make_dataset,
)
from clep.errors import InputError

KINDS = (SyntheticFeatures, SyntheticVideos, SyntheticLongTerm, SyntheticObjectives, SyntheticAVA, SyntheticEgo4D)


@dataclass(frozen=True)
class _Numbers(SyntheticDataset):
    format = "clep-synthetic-numbers"
    folders = ("a", "b")

    count: int = 2
    scale: int | float = 1.5
    encoder: EncoderSettings = field(default_factory=lambda: EncoderSettings(dim=4))

    def check(self):
        self._check_range("count", 1)

    def generate(self, folder, seed, progress):
        for name in self.folders:
            (folder / name).mkdir(exist_ok=True)
            for i in range(self.count):
                if not (folder / name / str(i)).exists():
                    _write(folder / name / str(i), f"{seed} {i * self.scale}")
        return {"files": 2 * self.count}


def _write(path, text):
    path.write_text(text)


def _files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_complete_dataset_is_reused_and_another_one_refused(tmp_path):
    counts = _Numbers().make(tmp_path, seed=1)
    assert counts == {"files": 4, "bytes": 4 * 5, "folder": str(tmp_path)}
    assert _Numbers.read(tmp_path)["counts"] == {"files": 4, "bytes": 20}
    before = _files(tmp_path)
    assert set(before) == {".dataset.json.lock", "dataset.json", "a/0", "a/1", "b/0", "b/1"}
    assert make_dataset(_Numbers(), tmp_path, seed=1) == counts
    with pytest.raises(InputError, match=r"dataset\.json.*seed 1.*requested 2"):
        _Numbers().make(tmp_path, seed=2)
    with pytest.raises(InputError, match="other settings"):
        _Numbers(count=3).make(tmp_path, seed=1)
    with pytest.raises(InputError, match="other settings"):
        _Numbers(encoder=EncoderSettings(dim=5)).make(tmp_path, seed=1)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("first", [_Numbers(), _Numbers(count=3)])
def test_a_stopped_call_is_continued_or_replaced(tmp_path, monkeypatch, first):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    _Numbers().make(whole)
    written = []

    def stop(path, text):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        path.write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr("tests.demo.test_synthetic._write", stop)
        with pytest.raises(KeyboardInterrupt):
            first.make(stopped)
    with pytest.raises(InputError, match=r"dataset\.json"):
        _Numbers.read(stopped)
    kept = written[0].stat().st_mtime_ns
    _Numbers().make(stopped)
    assert (written[0].stat().st_mtime_ns == kept) == (first == _Numbers())
    assert _files(stopped) == _files(whole)


def test_files_of_others_and_datasets_of_another_kind_are_not_touched(tmp_path):
    (tmp_path / "mine" / "b").mkdir(parents=True)
    (tmp_path / "mine" / "b" / "0").write_text("mine")
    with pytest.raises(InputError, match=r"mine/b holds files that are not a synthetic dataset"):
        _Numbers().make(tmp_path / "mine")
    assert _files(tmp_path / "mine") == {".dataset.json.lock": b"", "b/0": b"mine"}
    _Numbers().make(tmp_path / "numbers")
    before = _files(tmp_path / "numbers")
    with pytest.raises(InputError, match="not a clep-synthetic-features"):
        SyntheticFeatures.read(tmp_path / "numbers")
    with pytest.raises(InputError, match="not a clep-synthetic-ava"):
        SyntheticAVA().make(tmp_path / "numbers", progress=False)
    assert _files(tmp_path / "numbers") == before


def test_concurrent_calls_wait_for_the_first(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("tests.demo.test_synthetic._write", lambda path, text: (written.append(path), path.touch()))
    threads = [threading.Thread(target=_Numbers().make, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == len(set(written)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_json(kind):
    settings = kind()
    assert kind.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings
    assert len({one().digest(0) for one in KINDS} | {settings.digest(1)}) == len(KINDS) + 1


def test_settings_from_some_values():
    changed = SyntheticLongTerm.from_dict({"max_pending": 3, "encoder": {"dim": 16}})
    assert changed == SyntheticLongTerm(max_pending=3, encoder=replace(SyntheticLongTerm().encoder, dim=16))
    with pytest.raises(InputError, match=r"max_pendin.*Did you mean 'max_pending'"):
        SyntheticLongTerm.from_dict({"max_pendin": 3})
    with pytest.raises(InputError, match=r"encoder\.dimm.*Did you mean 'dim'"):
        SyntheticLongTerm.from_dict({"encoder": {"dimm": 3}})
    with pytest.raises(InputError, match="max_pending"):
        SyntheticLongTerm.from_dict({"max_pending": "many"})


def test_equal_settings_have_equal_digests():
    assert _Numbers(scale=2).digest(0) == _Numbers(scale=2.0).digest(0)
    assert SyntheticVideos(shortest_s=20).digest(3) == SyntheticVideos(shortest_s=20.0).digest(3)
    assert _Numbers().digest(0) != _Numbers().digest(1)
