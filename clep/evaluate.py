"""The evaluation command: `python -m clep.evaluate ckpt=PATH [evaluator=NAME] [key=value …]`.

With `evaluator=ava predictions=…` it needs no model: it measures a csv of detections on AVA's ground truth.
"""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clep.command_line import options_help, read_options, run_command, split_words, typed_values
from clep.config.build import build
from clep.config.check import check_config, did_you_mean
from clep.config.compose import compose_config, set_path
from clep.config.folder import config_folder
from clep.config.mistakes import nearest_option
from clep.config.overrides import (
    check_read_overrides,
    key_of,
    leaves_out_evaluators,
    listed,
    override,
    parse_overrides,
    plain_values,
    split_config_dir,
    typed_targets,
)
from clep.config.own_parts import explain_refusal
from clep.config.plugins import chosen_plugins, plugin_names
from clep.config.requirements import files_read
from clep.config.saved import COMPOSED, OVERRIDES, run_folder, saved_config, saved_overrides
from clep.config.targets import ANYTHING, REGISTERED_ONLY, Targets, allowed, targets_in_folder
from clep.device import find_device
from clep.errors import InputError
from clep.evaluation.ava import evaluate_ava
from clep.evaluation.details import DETAILS, Detail, write_details
from clep.evaluation.evaluator import Evaluator, add_metrics, coverage_text
from clep.files import write_json
from clep.hub import local_model
from clep.machine import this_machine, versions
from clep.models import SavedModel, load_model
from clep.models.saving import model_class
from clep.training.display import print_results

log = logging.getLogger(__name__)

USAGE = """Evaluate a trained model, or detections in a file.

  python -m clep.evaluate ckpt=PATH [evaluator=NAME] [out=FOLDER] [device=cpu|cuda] [allow=[MODULE]] [key=value …]
  python -m clep.evaluate model=joint_space evaluator=NAME [out=FOLDER] [key=value …]
  python -m clep.evaluate evaluator=ava predictions=CSV groundtruth=CSV [label_map=FILE] [excluded=CSV] [out=PATH]

{options}

model      instead of ckpt: joint_space compares the rows of a bank with sentence embeddings of the same published
           model, without training; evaluator.NAME.bank and evaluator.NAME.texts name the two banks
evaluator  {names},
           or several: 'evaluator=[kinetics,retrieval]'; default: those of the run
key=value  any setting of train.py, for instance paths.data=DIR if the data has moved
--config-dir DIR  your own config groups, as in training

Options of evaluator=ava (frame mAP at an intersection over union of 0.5):
{ava}"""
_OWN = ("ckpt", "out", "device", "allow")  # parameters of `evaluate` that are options of the command


def evaluate(
    ckpt: str | Path,
    overrides: Sequence[str],
    out: str | Path | None = None,
    device: str | None = None,
    allow: str | Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> dict[str, float]:
    """Measure the model at `ckpt` with the evaluators of its run, as changed by `overrides`, and return the metrics.

    What comes with the run is data: it may name registered classes of clep only, is refused before an import
    otherwise, and writes nothing outside of `out`. What `overrides` and `config_dir` name is the user's own choice.

    Args:
        ckpt: a run's folder, a .ckpt in it, a folder with a saved model, or a model of the hub (`user/name`).
        overrides: settings as on the command line of `train.py`.
        out: folder of `metrics.json`, `coverage.json` and what evaluators write, such as `ava/results.csv`; default:
            `evaluate` in the folder of the run.
        device: where the model computes, cpu or cuda; default: a GPU if there is one.
        allow: your own modules or classes that the run may name, e.g. [mine]. All other names must be registered
            classes of clep, since a run folder may come from a stranger and building a class runs its code.
        config_dir: folder of the user's own config groups, as Hydra's `--config-dir`.

    Raises:
        InputError: the model, a setting or a file cannot be used, or the run names a class that is not allowed.
    """
    local = local_model(ckpt)
    if local != Path(ckpt) and out is None:
        raise InputError(f"{ckpt} is not a local folder; name the folder for its metrics with out=FOLDER")
    where = find_device(device)
    typed = typed_targets(overrides) | chosen_plugins(plain_values(overrides))
    typed |= targets_in_folder(config_dir) if config_dir is not None else frozenset()
    targets = allowed(allow, typed)
    folder = run_folder(local)
    with explain_refusal(folder, targets, config_dir):
        model = load_model(local, allow).to(where).eval()
        out = _default_out(folder) if out is None else Path(out)
        remembered = model.metadata
        cfg = compose_like_the_run(
            folder, overrides, remembered.get("sentence_encoder"), remembered.get("tag_style"), targets, config_dir
        )
        return measure(model, cfg, out, targets, overrides, str(ckpt))


def evaluate_banks(
    overrides: Sequence[str],
    out: str | Path | None = None,
    device: str | None = None,
    config_dir: str | Path | None = None,
) -> dict[str, float]:
    """Measure a model that needs no training, such as `model=joint_space`, on banks, and return the metrics.

    Args:
        overrides: settings as on the command line of `train.py`, with `model=NAME` and `evaluator=NAME`.
        out, device, config_dir: see `evaluate`; the default of `out` is `evaluate/` in `paths.runs`.

    Raises:
        InputError: a setting or a file cannot be used, or the model cannot be built without training data.
    """
    given = {key_of(parsed) for parsed in parse_overrides(overrides)}
    if "evaluator" not in given:
        raise InputError("evaluator=NAME is needed with model=NAME, for example evaluator=epic_mir")
    cfg = compose_config("train", ["experiment=ego4d_clip", *overrides], config_dir)
    settings: Any = OmegaConf.to_container(cfg.model, resolve=True)
    if any(isinstance(part, dict) and part.get("in_dim", 0) is None for part in settings.values()):
        raise InputError(
            "model=NAME without ckpt=PATH is for models that need no training (model=joint_space); "
            "give a run of this model with ckpt=PATH"
        )
    metadata = {"tag_style": cfg.tag_style} | (
        {"sentence_encoder": cfg.text_encoder} if "text_encoder" in given else {}
    )
    model = model_class(settings, ANYTHING).from_config({**settings, "metadata": metadata}, ANYTHING)
    where = find_device(device)
    out = Path(cfg.paths.runs) / "evaluate" if out is None else Path(out)
    return measure(model.to(where).eval(), cfg, out, ANYTHING, overrides, "without training")


def measure(
    model: SavedModel, cfg: DictConfig, out: Path, targets: Targets, overrides: Sequence[str], title: str
) -> dict[str, float]:
    """Run the evaluators of a composed config, write their metrics and coverage into `out`, and print them.

    Args:
        model: on its device, in evaluation mode.
        cfg: of `compose_config("train", …)`.
        out: folder of `metrics.json` and `coverage.json`.
        targets: classes that the config may name.
        overrides: what the user typed; other outputs of evaluators must lie in `out`.
        title: of the printed table.

    Raises:
        InputError: a setting or a file cannot be used, or there is no evaluator.
    """
    set_path(cfg, "paths.run", out)  # files that an evaluator writes do not replace those of the run
    try:
        plain: Any = OmegaConf.to_container(cfg.evaluator, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error
    check_config(plain, "evaluator", targets)
    _refuse_other_outputs(plain, out, overrides)
    metrics: dict[str, float] = {}
    coverage = {}
    details: list[Detail] = []
    leave_out = leaves_out_evaluators(cfg.get("missing_evaluators"), overrides)
    for name, config in plain.items():
        missing = [path for path in sorted(files_read(config, targets)) if not path.exists()]
        if missing and leave_out:
            log.warning(
                "evaluator %s is left out: %s does not exist (with evaluator=%s that is an error)",
                name,
                missing[0],
                name,
            )
            continue
        evaluator = build(config, targets=targets, key=f"evaluator.{name}")
        if not isinstance(evaluator, Evaluator):
            raise InputError(f"evaluator.{name}: {type(evaluator).__name__} is not a clep.evaluation.Evaluator")
        evaluator.progress = True
        add_metrics(metrics, evaluator.run(model, details=True), name)
        details += evaluator.details
        coverage[name] = evaluator.coverage
        log.info("Evaluated %s: %s", name, coverage_text(evaluator.coverage))
    if not metrics:
        raise InputError("there is nothing to measure: choose an evaluator with evaluator=NAME")
    write_json(out / "metrics.json", metrics)
    write_json(out / "coverage.json", coverage)
    write_details(out / DETAILS, details, {"machine": this_machine(), "versions": versions()})
    print_results({}, metrics, f"{title}: {out}")
    return metrics


def compose_like_the_run(
    folder: Path,
    overrides: Sequence[str],
    text_encoder: str | None = None,
    tag_style: str | None = None,
    targets: Targets = REGISTERED_ONLY,
    config_dir: str | Path | None = None,
) -> DictConfig:
    """Compose the training config with the overrides of the run in `folder`, and then with `overrides`.

    Where the run chose files of a config folder that is not given here, its composed config takes their place.

    Args:
        folder: of the run; its `.hydra/overrides.yaml` and `.hydra/config.yaml` are read as data.
        overrides: settings of the user.
        text_encoder, tag_style: what the model remembers of its texts; None where it does not say.
        targets: classes that the run may name.
        config_dir: folder of the user's own config groups.

    Raises:
        InputError: an override does not fit the config, or the run names a class that is not among `targets`.
    """
    saved, typed = folder / OVERRIDES, saved_overrides(folder)
    before = ["experiment=ego4d_clip"] if typed is None else typed
    if tag_style and typed is None:
        before.append(override("tag_style", tag_style))
    given = {key_of(parsed) for parsed in parse_overrides(overrides)}
    # A group that is chosen anew starts from its own file: what the run changed in the old one may not exist there.
    kept = [
        word
        for word, parsed in zip(before, parse_overrides(before, str(saved)), strict=True)
        if not _is_given(key_of(parsed), given)
    ]
    encoder = [] if text_encoder is None or "text_encoder" in given else [override("text_encoder", text_encoder)]
    kept = [word for word in kept if not (encoder and word.startswith("text_encoder="))]
    folders = [config_folder(), *([Path(config_dir)] if config_dir is not None else [])]
    known, foreign = check_read_overrides(kept, targets, str(saved), folders)
    if foreign:
        cfg = _composed_before(folder, foreign, [*encoder, *overrides], targets, config_dir)
    else:
        cfg = compose_config("train", [*known, *encoder, *overrides], config_dir)
    if "paths.run" not in given:
        set_path(cfg, "paths.run", folder)
    return cfg


def _composed_before(
    folder: Path, foreign: list[str], words: Sequence[str], targets: Targets, config_dir: str | Path | None
) -> DictConfig:
    """Return the composed config that the run left, as data, with the user's settings on top."""
    if not (folder / COMPOSED).is_file():
        raise InputError(
            f"{foreign[0]}: the config folders do not have that file; add --config-dir DIR, as in training"
        )
    cfg = saved_config(folder)
    fresh = compose_config("train", words, config_dir)
    for word, parsed in zip(words, parse_overrides(words), strict=True):
        key = key_of(parsed).replace("/", ".")
        value = OmegaConf.select(fresh, key)
        if value is None and OmegaConf.select(cfg, key, default=cfg) is cfg:
            raise InputError(f"{word} needs the config folder that the run was trained with; add --config-dir DIR")
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    return cfg


def _default_out(folder: Path) -> Path:
    """Return `evaluate` in the run's folder, unless a link there leads elsewhere."""
    out = folder / "evaluate"
    if not out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out} is a link to {out.resolve()}; name the folder of the results with out=FOLDER")
    return out


def _refuse_other_outputs(evaluators: dict[str, Any], out: Path, overrides: Sequence[str]) -> None:
    """Refuse evaluators whose option `out` leads out of `out`, unless the user typed it.

    Raises:
        InputError: names the option.
    """
    typed = {key_of(parsed) for parsed in parse_overrides(overrides)}
    for name, node in evaluators.items():
        key, path = f"evaluator.{name}.out", node.get("out") if isinstance(node, dict) else None
        if path is None or _is_given(key, typed - {"evaluator"}):
            continue
        if not Path(str(path)).resolve().is_relative_to(out.resolve()):
            raise InputError(f"{key}={path} of the run lies outside of {out}; add {key}=FOLDER yourself")


def _is_given(key: str, given: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in given)


def _run(words: list[str]) -> None:
    """Evaluate as the words say."""
    words, config_dir = split_config_dir(words)
    keys = {word.partition("=")[0] for word in words}
    if "evaluator=ava" in words and ("predictions" in keys or "ckpt" not in keys):
        if useless := sorted(keys & {"ckpt", "device"}):
            raise InputError(f"evaluator=ava measures the detections in predictions=CSV; leave {useless[0]} out")
        words.remove("evaluator=ava")
        evaluate_ava(**read_options(evaluate_ava, words, "evaluator=ava"))
        return
    given, overrides = split_words(words, _OWN, "ckpt")
    options, names = typed_values(evaluate, given), _evaluators(config_dir)
    for key, _, value in (word.partition("=") for word in overrides):
        if key == "evaluator" and (unknown := [one for one in listed(value) if one not in names]):
            raise InputError(f"evaluator={unknown[0]} is unknown. {did_you_mean(unknown[0], names)}")
    if "ckpt" in options:
        evaluate(overrides=overrides, config_dir=config_dir, **options)
    elif "model" in keys:
        evaluate_banks(overrides, options.get("out"), options.get("device"), config_dir)
    else:
        meant = [word for word in overrides if nearest_option(word.partition("=")[0], _OWN).endswith("'ckpt'?")]
        hint = f" (did you mean {shlex.quote('ckpt=' + meant[0].partition('=')[2])}?)" if meant else ""
        raise InputError(
            f"ckpt=PATH is needed{hint}: a run's folder, a .ckpt, or a folder with a saved model; or "
            "model=joint_space, to compare the banks of a published model"
        )


def _evaluators(config_dir: str | None) -> list[str]:
    """Return the choices of `evaluator=NAME`."""
    folders = [config_folder(), *([Path(config_dir)] if config_dir else [])]
    in_folders = {path.stem for folder in folders for path in (folder / "evaluator").glob("*.yaml")}
    return sorted({"ava", *in_folders, *plugin_names("evaluator")})


def _usage(words: list[str]) -> str:
    names = ", ".join(_evaluators(split_config_dir(words)[1]))
    return USAGE.format(names=names, options=options_help(evaluate, _OWN), ava=options_help(evaluate_ava))


def main(arguments: list[str] | None = None) -> int:
    """Evaluate from the command line, see `run_command`."""
    return run_command(_run, _usage, arguments)


if __name__ == "__main__":
    sys.exit(main())
