"""What a run left of its settings, read from its folder as data."""

from pathlib import Path

import pytest
import yaml

from clep.config.saved import run_folder, saved_config, saved_overrides, saved_settings, without_seed, words_that_differ
from clep.errors import InputError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "one"
    (folder / ".hydra").mkdir(parents=True)
    return folder


def leave(run: Path, name: str, content: object) -> None:
    (run / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")


def test_the_folder_of_a_checkpoint_or_model_is_the_nearest_with_settings(run: Path) -> None:
    for name in ("checkpoints", "model"):
        (run / name).mkdir()
        (run / name / "last.ckpt").touch()
        assert run_folder(run / name) == run_folder(run / name / "last.ckpt") == run
    assert run_folder(run) == run
    (run / "checkpoints" / ".hydra").mkdir()
    assert run_folder(run / "checkpoints" / "last.ckpt") == run / "checkpoints"


def test_a_checkpoint_far_from_any_settings_belongs_to_its_own_folder(run: Path, tmp_path: Path) -> None:
    deep = run / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "last.ckpt").touch()
    assert run_folder(deep / "last.ckpt") == deep
    (tmp_path / "last.ckpt").touch()
    assert run_folder(tmp_path / "last.ckpt") == tmp_path


def test_settings_are_nested_and_empty_where_there_are_none(run: Path) -> None:
    assert saved_settings(run) == {}
    leave(run, "config.yaml", {"data": {"batch_size": 8}, "seed": 1})
    assert saved_settings(run) == {"data": {"batch_size": 8}, "seed": 1}
    leave(run, "config.yaml", ["no", "settings"])
    assert saved_settings(run) == {}
    leave(run, "config.yaml", "a: [")
    with pytest.raises(InputError, match=r"config\.yaml"):
        saved_settings(run)


def test_overrides_are_a_list_of_texts(run: Path) -> None:
    assert saved_overrides(run) is None
    leave(run, ".hydra/overrides.yaml", [])
    assert saved_overrides(run) == []
    leave(run, ".hydra/overrides.yaml", ["seed=1", "data.batch_size=8"])
    assert saved_overrides(run) == ["seed=1", "data.batch_size=8"]
    for content in ({"seed": 1}, [1, 2], "a: ["):
        leave(run, ".hydra/overrides.yaml", content)
        with pytest.raises(InputError, match=r"overrides\.yaml"):
            saved_overrides(run)


def test_the_config_keeps_its_references(run: Path) -> None:
    leave(run, ".hydra/config.yaml", {"paths": {"data": "d", "run": "${hydra:run.dir}"}, "file": "${paths.data}/x"})
    cfg = saved_config(run)
    assert cfg.file == "d/x"
    cfg.paths.data = "e"
    assert cfg.file == "e/x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot be read"),
        ("!!python/object/apply:os.system ['touch canary']", "cannot be read"),
        (["paths"], "not the composed config of a run"),
        ({"data": 1}, "not the composed config of a run"),
        ({"paths": "data"}, "not the composed config of a run"),
        ({"paths": {}, "x": "${oc.env:HOME}"}, r"refers to more than the config \(oc\.env\)"),
        ({"paths": {"data": "${oc.env:HOME}"}}, "refers to more than the config"),
        ({"paths": {}, "x": [{"y": "${${a}:b}"}]}, "refers to more than the config"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    monkeypatch.chdir(run)
    leave(run, ".hydra/config.yaml", content)
    with pytest.raises(InputError, match=rf"config\.yaml.*{message}"):
        saved_config(run)
    assert not (run / "canary").exists()


def test_a_missing_config_is_named(run: Path) -> None:
    with pytest.raises(InputError, match=r"\.hydra.config\.yaml cannot be read"):
        saved_config(run)


def test_words_that_differ_between_the_runs_of_a_sweep() -> None:
    typed = {Path("0"): ["a=1", "seed=0", "b=2"], Path("1"): ["a=1", "seed=1", "b=2"], Path("2"): ["a=1", "c=3", "b=2"]}
    assert words_that_differ(typed) == {Path("0"): ["seed=0"], Path("1"): ["seed=1"], Path("2"): ["c=3"]}
    assert words_that_differ({Path("0"): ["a=1"]}) == {Path("0"): []}
    assert words_that_differ({}) == {}
    assert without_seed(["seed=0", "a=1", "seeds=2", "data.seed=3"]) == ["a=1", "seeds=2", "data.seed=3"]
