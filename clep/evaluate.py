"""The evaluation command: `python -m clep.evaluate ckpt=PATH [evaluator=NAME] [key=value …]`.

With `evaluator=ava predictions=…` it needs no model: it measures a csv of detections on AVA's ground truth.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clep.config.build import build
from clep.config.check import check_config, describe_compose_error, did_you_mean
from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
from clep.errors import InputError
from clep.evaluation.ava import AVA_USAGE, ava_files, evaluate_ava
from clep.evaluation.evaluator import add_metrics, coverage_text
from clep.files import write_json
from clep.models import load_model
from clep.training.display import print_results

log = logging.getLogger(__name__)

USAGE = """Measure a trained model without training, or detections that a file holds.

  python -m clep.evaluate ckpt=PATH [evaluator=NAME] [out=FOLDER] [device=cpu|cuda] [key=value …]
  python -m clep.evaluate evaluator=ava predictions=CSV groundtruth=CSV [label_map=FILE] [excluded=CSV] [out=PATH]

ckpt       a run's folder, a .ckpt in it, or a folder with a saved model
evaluator  {names},
           or several: 'evaluator=[kinetics,retrieval]'; the run's own where it is left out
out        where metrics.json is written, and ava/results.csv; default: evaluate/ in the run's folder
key=value  any setting of train.py, for instance paths.data=DIR where the data has moved

{ava}"""


def evaluate(
    ckpt: str | Path, overrides: list[str], out: str | Path | None = None, device: str | None = None
) -> dict[str, float]:
    """Measure the model at `ckpt` with the evaluators of its run, as changed by `overrides`, and return the metrics.

    Args:
        ckpt: a run's folder, a checkpoint, or a folder with a saved model.
        overrides: settings as on the command line of `train.py`.
        out: folder of `metrics.json`, `coverage.json` and what evaluators write, such as `ava/results.csv`; None for
            `evaluate` in the folder of the run.
        device: where the model computes; None for a GPU if there is one.

    Raises:
        InputError: the model, a setting or a file cannot be used.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_model(ckpt).to(where).eval()
    folder = run_folder(Path(ckpt))
    out = Path(out) if out else folder / "evaluate"
    remembered = model.metadata
    cfg = compose_like_the_run(folder, overrides, remembered.get("sentence_encoder"), remembered.get("tag_style"))
    cfg.paths.run = str(out)  # files that an evaluator writes do not replace those of the run
    plain: Any = OmegaConf.to_container(cfg.evaluator, resolve=True)
    check_config(plain, "evaluator")
    metrics: dict[str, float] = {}
    coverage = {}
    for name, config in plain.items():
        evaluator = build(config)
        add_metrics(metrics, evaluator.run(model), name)
        coverage[name] = evaluator.coverage
        log.info("Evaluated %s: %s", name, coverage_text(evaluator.coverage))
    if not metrics:
        raise InputError("there is nothing to measure: choose an evaluator with evaluator=NAME")
    write_json(out / "metrics.json", metrics)
    write_json(out / "coverage.json", coverage)
    print_results({}, metrics, f"{ckpt}: {out}")
    return metrics


def run_folder(ckpt: Path) -> Path:
    """Return the folder of the run that `ckpt` belongs to: the nearest above it with a `.hydra`, else its own."""
    start = ckpt if ckpt.is_dir() else ckpt.parent
    for folder in (start, *list(start.resolve().parents)[:2]):
        if (folder / ".hydra").is_dir():
            return folder
    return start


def compose_like_the_run(
    folder: Path, overrides: list[str], text_encoder: str | None, tag_style: str | None = None
) -> DictConfig:
    """Compose the training config with the overrides of the run in `folder`, and then with `overrides`.

    Raises:
        InputError: an override does not fit the config.
    """
    saved = folder / ".hydra" / "overrides.yaml"
    before = list(OmegaConf.load(saved)) if saved.is_file() else ["experiment=ego4d_clip"]
    if tag_style and not saved.is_file():
        before.append(f"tag_style={tag_style}")
    given = {override.split("=")[0].lstrip("+~") for override in overrides}
    # A group that is chosen anew starts from its own file: what the run changed in the old one may not exist there.
    kept = [override for override in before if not _is_given(override.split("=")[0].lstrip("+~"), given)]
    encoder = [] if text_encoder is None or "text_encoder" in given else [f"text_encoder='{text_encoder}'"]
    kept = [override for override in kept if not (encoder and override.startswith("text_encoder="))]
    register_resolvers()
    try:
        with initialize_config_dir(str(config_folder()), version_base=None):
            return compose("train", [*kept, *encoder, f"paths.run='{folder}'", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(describe_compose_error(error)) from error


def _listed(value: str) -> list[str]:
    """Return the names in `kinetics` or `[kinetics,retrieval]`."""
    return [name.strip() for name in value.removeprefix("[").removesuffix("]").split(",")]


def _is_given(key: str, given: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in given)


def main(arguments: list[str] | None = None) -> None:
    """Evaluate from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    names = sorted({"ava", *(path.stem for path in (config_folder() / "evaluator").glob("*.yaml"))})
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        sys.stdout.write(USAGE.format(names=", ".join(names), ava=AVA_USAGE) + "\n")
        return
    try:
        keys = {argument.partition("=")[0] for argument in arguments}
        if "evaluator=ava" in arguments and ("predictions" in keys or "ckpt" not in keys):
            evaluate_ava(**ava_files([argument for argument in arguments if argument != "evaluator=ava"]))
            return
        own = {"ckpt": "", "out": "", "device": ""}
        overrides = []
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if not equals:
                raise InputError(f"{argument!r} is not of the form key=value. {did_you_mean(argument, list(own))}")
            if key in own:
                own[key] = value
            elif key == "evaluator" and (unknown := [one for one in _listed(value) if one not in names]):
                raise InputError(f"evaluator={unknown[0]} is unknown. {did_you_mean(unknown[0], names)}")
            else:
                overrides.append(argument)
        if not own["ckpt"]:
            raise InputError("ckpt=PATH is needed: a run's folder, a .ckpt, or a folder with a saved model")
        evaluate(own["ckpt"], overrides, own["out"] or None, own["device"] or None)
    except InputError as error:
        log.error("error: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
