"""A run, model or ablation file of a stranger builds registered classes only; nothing else is imported or executed."""

import importlib
import inspect
import os
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import clep
from clep.ablation import read_grid
from clep.config import targets as module_of_targets
from clep.config.build import build
from clep.config.check import check_config
from clep.config.folder import config_folder
from clep.config.overrides import check_read_overrides
from clep.config.targets import REGISTERED, REGISTERED_ONLY, allowed, targets_in_folder
from clep.data import SamplingStrategy, Source
from clep.errors import InputError
from clep.evaluate import compose_like_the_run, evaluate, main
from clep.evaluation import Evaluator
from clep.files import read_json, write_json
from clep.losses import PositivesRule
from clep.models import DualEncoder, FeatureBankOperator, SavedModel, Tower
from clep.video import VideoEncoder
from clep.video.encoders.frozen import FrameEncoder
from tests.evaluation.tiny_clips import model_for, write_kinetics

BASES = (Evaluator, FeatureBankOperator, PositivesRule, SamplingStrategy, SavedModel, Source, Tower, VideoEncoder)
QUARTERS = [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))]
"""Parts of all names; `make test` tries one."""


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(clep.__path__, "clep."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def public_callables() -> set[str]:
    """Return the dotted names of all functions, classes and methods that are reached through a module of clep."""
    found = set()
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not callable(value):
                continue
            found.add(f"{module.__name__}.{name}")
            if inspect.isclass(value) and value.__module__.startswith("clep."):
                methods = (inner for inner, item in vars(value).items() if callable(getattr(value, inner, item)))
                found.update(f"{module.__name__}.{name}.{inner}" for inner in methods if not inner.startswith("_"))
    return found


@pytest.fixture(scope="module")
def names() -> list[str]:
    return sorted(public_callables() - REGISTERED)


@pytest.fixture
def no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *args: Any) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(module_of_targets.importlib, "import_module", refuse)


def test_the_names_are_those_of_the_whole_package(names: list[str]) -> None:
    assert len(names) > 1000
    known = {"clep.compute.attempts.call_pickled", "clep.files.write_json", "clep.preprocess.videos.Videos"}
    assert known <= set(names)


@pytest.mark.parametrize("part", QUARTERS)
@pytest.mark.usefixtures("no_import")
def test_no_other_callable_of_the_package_is_a_target_of_a_run(names: list[str], part: int) -> None:
    names, folders = names[part::4], [config_folder()]
    for name in names:
        with pytest.raises(InputError, match=r"is not allowed: .*allow=\["):
            check_config({"x": {"_target_": "clep.data.Window", "align": [{"_target_": name}]}}, "evaluator")
    forms = (
        "+evaluator.x={{_target_: {name}, path: y}}",
        "+data.sources.ego4d={{a: [{{_target_: {name}}}]}}",
        "++data.sources.ego4d._target_={name}",
        "evaluator.kinetics._target_='{name}'",
    )
    for index, name in enumerate(names[::5]):
        word = forms[index % len(forms)].format(name=name)
        with pytest.raises(InputError, match=r"overrides\.yaml: .*is not allowed"):
            check_read_overrides([word], REGISTERED_ONLY, "overrides.yaml", folders)


def without_digest(folder: Path) -> dict[str, Any]:
    """Return a model's config as it may be edited by hand."""
    return {key: value for key, value in read_json(folder / "config.json").items() if key != "config_digest"}


@pytest.mark.parametrize("part", QUARTERS)
def test_no_other_callable_of_the_package_is_part_of_a_model(
    names: list[str], part: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model_for().save_pretrained(tmp_path)
    request.getfixturevalue("no_import")
    names = names[part::4]
    for name in names:
        with pytest.raises(InputError, match=r"model\.video\._target_=.* is not allowed"):
            DualEncoder.from_config({"video": {"_target_": name}})
    content = without_digest(tmp_path)
    for name in names[::50]:
        write_json(tmp_path / "config.json", {**content, "model": {"_target_": name}})
        with pytest.raises(InputError, match=r"config\.json: model\._target_=.* is not allowed"):
            clep.load(tmp_path)


def test_every_part_of_the_package_is_registered() -> None:
    classes = {
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BASES) and not inspect.isabstract(value)
    }
    registered = {build_class(name) for name in REGISTERED}
    own = {one for one in classes if one.__module__.startswith("clep.") and one.__name__[0] != "_"}
    assert own - registered - {*BASES, FrameEncoder} == set()
    conf = targets_in_folder(config_folder() / "evaluator") | targets_in_folder(config_folder() / "model")
    assert conf <= REGISTERED


def build_class(name: str) -> type:
    found = module_of_targets.find_target(name, "", REGISTERED_ONLY)
    assert inspect.isclass(found), name
    return found


class TouchesACanary:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$CLEP_TEST_CANARY"',)


def hostile_values(folder: Path) -> list[Any]:
    paths = [str(folder / name) for name in ("evil.pkl", "evil.pt", "victim.txt", "", "new.txt")]
    return [*paths, 1, {"a": str(folder / "evil.pkl")}, [str(folder / "evil.pkl")]]


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_registered_classes_with_hostile_arguments_change_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEP_TEST_CANARY", str(tmp_path / "canary"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "stranger"
    folder.mkdir()
    for file in ("evil.pkl", "evil.pt", "evil.npy", "modules.json", "config.json", "model.safetensors", "clips.h5"):
        (folder / file).write_bytes(pickle.dumps(TouchesACanary()))
    (folder / "victim.txt").write_text("precious")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for value in hostile_values(folder):
        parameters = inspect.signature(build_class(name)).parameters.values()
        arguments = {p.name: value for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        for config in ({"_target_": name, **arguments}, {"_target_": name, **dict(list(arguments.items())[:1])}):
            try:
                made = build(config)
            except InputError:
                continue
            if isinstance(made, Evaluator):
                with pytest.raises((InputError, OSError, TypeError, ValueError)):
                    made.run(model_for())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model_for().save_pretrained(tmp_path / "run" / "model")
    write_kinetics(tmp_path / "data" / "clep" / "kinetics")
    (tmp_path / "run" / ".hydra").mkdir()
    return tmp_path / "run"


def leave(run: Path, *words: str) -> None:
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))


MINE = """
from pathlib import Path
from clep.evaluation import Evaluator

Path(__file__).with_name("imported").touch()


class Constant(Evaluator):
    def measure(self, model):
        return {"mine/constant": 42.0}


def run(path):
    Path(path).touch()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


ATTACKS = [
    "+evaluator.x={_target_: MINE.Constant}",
    "+evaluator.x._target_=MINE.Constant",
    "++evaluator.kinetics={_target_: MINE.run, path: PATH/x}",
    "+data.sources.ego4d={_target_: MINE.run, path: PATH/x}",
    "+evaluator.x={_target_: clep.files.write_json, path: PATH/x, value: 1}",
    "+evaluator.x={_target_: clep.compute.attempts.call_pickled, pickled: {_target_: clep.files.read_json, path: x}}",
    "+evaluator.x={_target_: os.system, command: 'touch PATH/x'}",
    "+evaluator.x={_target_: '${name}'}",
    "+evaluator.x='${oc.create:\"{_target_: MINE.Constant}\"}'",
    "+evaluator.x='${oc.decode:${name}}'",
    "tag_style='${oc.env:HOME}'",
    "tag_style='${${name}:HOME}'",
    "+evaluator.x=extend_list({_target_: MINE.Constant})",
    "hydra.searchpath=['file://PATH']",
    "experiment=../../../../../../../../PATH/stranger",
    "experiment='PATH/stranger'",
    "evaluator=[kinetics,'../stranger']",
]


@pytest.mark.parametrize("word", ATTACKS)
def test_a_run_that_names_other_code_is_refused(run: Path, tmp_path: Path, mine: str, word: str) -> None:
    (tmp_path / "stranger.yaml").write_text(f"# @package _global_\nevaluator: {{x: {{_target_: {mine}.Constant}}}}\n")
    word = word.replace("MINE", mine).replace("PATH", str(tmp_path))
    leave(run, "evaluator=kinetics", word)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"overrides\.yaml"):
        evaluate(run, [f"paths.data={tmp_path / 'data'}"], device="cpu")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_evaluator_of_the_user_does_not_build_the_sources_of_the_run(run: Path, tmp_path: Path, mine: str) -> None:
    for words in (
        ["~data.sources.ego4d", f"+data.sources.ego4d={{_target_: {mine}.run, path: {tmp_path}/x}}"],
        ["~data.sources", f"+data.sources.ego4d={{_target_: clep.files.write_json, path: {tmp_path}/x, value: 1}}"],
    ):
        leave(run, *words)
        with pytest.raises(InputError, match=r"overrides\.yaml: \+data\.sources\.ego4d.* is not allowed"):
            evaluate(run, ["evaluator=retrieval"], device="cpu")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "imported").exists()


def test_a_run_may_change_values_and_name_registered_classes(run: Path, tmp_path: Path) -> None:
    leave(
        run,
        "evaluator=kinetics",
        "evaluator.kinetics.batch_size=9",
        "data.sources.ego4d.bank=${paths.out}/x.h5",
        "data.tokens={_target_: clep.data.TextTokens, encoder: '${text_encoder}'}",
        f"paths.data='{tmp_path}/o\\'brien = (1)'",
        "~logger",
    )
    cfg = compose_like_the_run(run, [])
    assert cfg.data.sources.ego4d.bank == f"{tmp_path}/o'brien = (1)/clep/x.h5"
    assert evaluate(run, [f"paths.data={tmp_path / 'data'}"], device="cpu")


@pytest.mark.parametrize("text", ["a: 1", "- {a: 1}", "- [", "- 3", "- '+a.b=[('", "- !!python/name:os.system ''"])
def test_a_damaged_list_of_overrides_is_refused(run: Path, text: str) -> None:
    (run / ".hydra" / "overrides.yaml").write_text(text)
    with pytest.raises(InputError, match=r"overrides\.yaml"):
        evaluate(run, [], device="cpu")


def test_results_are_written_only_into_the_output_folder(run: Path, tmp_path: Path) -> None:
    leave(run, "evaluator=ava", f"evaluator.ava.out={tmp_path / 'elsewhere'}")
    with pytest.raises(InputError, match=r"ava\.out=.*elsewhere of the run .* add evaluator\.ava\.out=FOLDER"):
        evaluate(run, [], device="cpu")
    leave(run, "evaluator=kinetics")
    (tmp_path / "elsewhere").mkdir()
    (run / "evaluate").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"evaluate is a link to .*out=FOLDER"):
        evaluate(run, [f"paths.data={tmp_path / 'data'}"], device="cpu")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_evaluator_of_ones_own_is_typed_or_allowed(run: Path, tmp_path: Path, mine: str) -> None:
    leave(run, "evaluator=none", f"+evaluator.x={{_target_: {mine}.Constant}}")
    assert main([f"ckpt={run}", "device=cpu"]) == 1
    assert not (tmp_path / "imported").exists()
    for allow in (mine, f"{mine}.", f"{mine}.Constant"):
        assert evaluate(run, [], device="cpu", allow=[allow]) == {"mine/constant": 42.0}
    main([f"ckpt={run}", f"allow=[{mine}]", "device=cpu"])
    leave(run, "evaluator=none")
    typed = [f"+evaluator.y={{_target_: {mine}.Constant}}"]
    assert evaluate(run, typed, device="cpu") == {"mine/constant": 42.0}
    leave(run, "evaluator=none", f"+evaluator.x={{_target_: {mine}.run, path: {tmp_path / 'x'}}}")
    with pytest.raises(InputError, match="no class that is defined there"):
        evaluate(run, [], device="cpu", allow=[mine])
    assert not (tmp_path / "x").exists()


def test_a_config_folder_of_ones_own(run: Path, tmp_path: Path, mine: str) -> None:
    """Without it the composed config of the run takes its place, as data."""
    groups = tmp_path / "o'brien" / "conf" / "evaluator"
    groups.mkdir(parents=True)
    (groups / "constant.yaml").write_text(f"constant: {{_target_: {mine}.Constant}}\n")
    leave(run, "evaluator=constant")
    with pytest.raises(InputError, match=r"evaluator=constant.* add --config-dir DIR"):
        evaluate(run, [], device="cpu")
    main([f"ckpt={run}", "--config-dir", str(groups.parent), "device=cpu"])
    assert read_json(run / "evaluate" / "metrics.json") == {"mine/constant": 42.0}
    composed = {
        "paths": {"run": "${hydra:runtime.output_dir}", "data": str(tmp_path / "data")},
        "evaluator": {"constant": {"_target_": f"{mine}.Constant"}},
    }
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(composed))
    with pytest.raises(InputError, match=rf"evaluator\.constant\._target_='{mine}\.Constant' is not allowed"):
        evaluate(run, [], device="cpu")
    assert evaluate(run, [], device="cpu", allow=[mine]) == {"mine/constant": 42.0}
    composed["evaluator"] = {"x": "${oc.env:HOME}"}
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(composed))
    with pytest.raises(InputError, match=r"config\.yaml: .*oc\.env"):
        evaluate(run, [], device="cpu")


@pytest.mark.parametrize("name", ["o'brien", "a=b (c), {d} é", "a\\'b\\", "x$y ~z"])
def test_any_folder_can_hold_a_run(tmp_path: Path, name: str) -> None:
    run = tmp_path / name / "run"
    model_for().save_pretrained(run / "model")
    write_kinetics(tmp_path / name / "data" / "clep" / "kinetics")
    (run / ".hydra").mkdir()
    leave(run, "evaluator=kinetics")
    cfg = compose_like_the_run(run, [])
    assert cfg.paths.run == str(run)


def test_an_ablation_file_is_data_too(tmp_path: Path, mine: str) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(yaml.safe_dump({"variants": {"a": [f"model.video._target_={mine}.Tower"], "b": ["model=mlp"]}}))
    with pytest.raises(InputError, match=rf"theirs\.yaml: .*{mine}\.Tower' is not allowed.*allow=\[{mine}\]"):
        read_grid([f"ablation={file}"])
    assert len(read_grid([f"ablation={file}", f"allow=[{mine}]"]).cells()) == 2
    assert len(read_grid(["experiment=demo", f"model.video._target_={mine}.Tower"]).cells()) == 1
    file.write_text(yaml.safe_dump({"overrides": ["experiment=../../x"]}))
    with pytest.raises(InputError, match=r"theirs\.yaml: experiment=\.\./"):
        read_grid([f"ablation={file}"])


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"window": {"poool": "rows"}}, r"metadata\.window\.poool: Window has no option"),
        ({"window": {"max_rows": "many"}}, r"metadata\.window\.max_rows='many'"),
        ({"window": 3}, r"metadata\.window=3"),
        ({"window": {"align": {"_target_": "os.system"}}}, r"metadata\.window"),
        ({"context": {"window_s": None}}, r"metadata\.context\.window_s=None"),
        ({"context": [1]}, r"metadata\.context="),
        ({"sentence_encoder": 3}, r"metadata\.sentence_encoder=3"),
        ({"bank_encoder": ["x"]}, r"metadata\.bank_encoder="),
        ({"prompts": ["a"]}, r"metadata\.prompts="),
        ([1], r"metadata is of type list"),
    ],
)
def test_metadata_is_checked_like_the_config(tmp_path: Path, metadata: Any, message: str) -> None:
    model_for().save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {**without_digest(tmp_path), "metadata": metadata})
    with pytest.raises(InputError, match=message):
        clep.load(tmp_path, device="cpu")


@pytest.mark.parametrize("entry", ["", ".", "a b", "mine;os", "*"])
def test_an_entry_of_allow_is_a_name(entry: str) -> None:
    with pytest.raises(InputError, match=r"write allow=\[mine\]"):
        allowed([entry])
