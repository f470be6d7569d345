"""A run prepares what its data and evaluators read, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from clep.train import evaluators_without_files, needed_jobs
from clep.training.settings import checked_settings
from tests.composing import compose_train


class Table:
    """A source of the user's own."""

    reads = ("table", "banks")

    def __init__(self, table: str, banks: str | None = None, note: str = "") -> None: ...


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    paths = [f"paths.data={folder}", f"paths.run={folder}"]
    return checked_settings(compose_train("experiment=ego4d_clip", *paths))


def names(settings: dict[str, Any], **changed: Any) -> set[str]:
    return {job.name for job in needed_jobs({**settings, **changed})}


def source(settings: dict[str, Any], **options: Any) -> dict[str, Any]:
    out = settings["paths"]["out"]
    filled = {key: value.replace("OUT", out) for key, value in options.items()}
    return {"sources": {"own": {"_target_": f"{__name__}.Table", **filled}}}


def test_of_an_experiment(settings: dict[str, Any]) -> None:
    assert names(settings) == {"ego4d_features", "ego4d_narrations", "kinetics", "ego_charades"}
    retrieval = {"retrieval": settings["evaluator"]["retrieval"]}
    assert names(settings, evaluator=retrieval) == {"ego4d_features", "ego4d_narrations"}
    assert names(settings, evaluator={"kinetics": settings["evaluator"]["kinetics"]}, data={}) == {"kinetics"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"table": "pairs.csv"}, set()),
        ({"table": "OUT/narrations_clean/narrations.arrow"}, {"ego4d_narrations"}),
        ({"table": "x", "banks": "OUT"}, {"ego4d_features", "ego4d_narrations", "kinetics", "ego_charades"}),
        ({"table": "OUT/kinetics_of_mine/clips.h5", "note": "OUT/kinetics/clips.h5"}, set()),
    ],
)
def test_of_a_source_of_ones_own(settings: dict[str, Any], options: dict[str, str], expected: set[str]) -> None:
    assert names(settings, data=source(settings, **options), evaluator={}) == expected


def test_relative_and_absolute_paths_are_one(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(settings["paths"]["data"])
    assert str(Path(settings["paths"]["out"]).relative_to(Path.cwd())) == "clep"
    assert names(settings, data=source(settings, table="clep/ego4d_features.h5"), evaluator={}) == {"ego4d_features"}


def test_an_evaluator_without_its_files_is_left_out(settings: dict[str, Any], tmp_path: Path) -> None:
    """With Ego4D's files alone: retrieval, which reads what the data reads, stays even before any file is there."""
    assert evaluators_without_files(settings) == {
        name: f"{settings['paths'][name]}/{file} does not exist"
        for name, file in (("kinetics", "val.csv"), ("ego_charades", "CharadesEgo_v1_test.csv"))
    }
    kinetics = {**settings["prepare"]["kinetics"], "output_folder": str(tmp_path), "csv": str(tmp_path / "val.csv")}
    (tmp_path / "val.csv").touch()
    evaluator = {"kinetics": {**settings["evaluator"]["kinetics"], "folder": str(tmp_path)}}
    changed = {**settings, "evaluator": evaluator, "prepare": {**settings["prepare"], "kinetics": kinetics}}
    assert evaluators_without_files(changed) == {"kinetics": f"{kinetics['features']} does not exist"}
    kinetics["features"] = str(tmp_path)
    assert evaluators_without_files(changed) == {}


def test_an_evaluator_that_reads_a_file_of_the_users_own(settings: dict[str, Any], tmp_path: Path) -> None:
    """No job writes it: it exists, or the evaluator is left out."""
    own = {"_target_": f"{__name__}.Table", "table": str(tmp_path / "questions.json")}
    changed = {**settings, "evaluator": {"own": own}}
    assert evaluators_without_files(changed) == {"own": f"{tmp_path / 'questions.json'} does not exist"}
    (tmp_path / "questions.json").touch()
    assert evaluators_without_files(changed) == {}
