"""Share a trained model: a folder with weights, config, prompts and a model card, uploaded to the Hugging Face hub."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clep.command_line import options_help, read_options, run_command
from clep.config.own_parts import explain_refusal
from clep.config.saved import run_folder, saved_settings
from clep.config.targets import TARGET, allowed
from clep.errors import InputError
from clep.evaluation.evaluator import coverage_text
from clep.files import atomic_path, check_output, read_json, write_json
from clep.hub import check_token, upload
from clep.models import DualEncoder, SavedModel, load_model
from clep.models.saving import CONFIG, WEIGHTS

log = logging.getLogger(__name__)

CARD, PROMPTS = "README.md", "prompts.json"
MESSAGE = "Model trained with clep"
USAGE = """Share a trained model in the Hugging Face hub.

  python -m clep.share run=PATH repo=user/name [license=NAME] [key=value …]
  python -m clep.share run=PATH to=DIR            writes the folder and uploads nothing

{options}"""
_TRAINING_KEYS = (
    *("loss", "positives", "data.batch_size", "trainer.max_epochs", "optim.optimizer.lr", "optim.optimizer"),
    *("data.sampler", "precision", "seed"),
)
_OTHER_METRICS = ("train/", "before/", "seconds/")


@dataclass(frozen=True)
class CardOptions:
    """Entries of the model card that only the owner of the model knows.

    Attributes:
        license: licence of the weights as the hub names it, e.g. mit, cc-by-4.0, cc-by-nc-4.0.
        data_license: a sentence about the licence of the data.
        datasets: names of the datasets, e.g. [ego4d].
        description: a paragraph that the card begins with.
        allow: your own modules or classes that the run may name, e.g. [mine].

    Examples:
        >>> from clep.share import CardOptions, write_share
        >>> write_share("model", "shared", options=CardOptions(license="mit", datasets=["ego4d"]))
        ['model.safetensors', 'config.json', 'README.md']
    """

    license: str = ""
    data_license: str = ""
    datasets: Sequence[str] = ()
    description: str = ""
    allow: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ShareOptions(CardOptions):
    """Options of the command, beside those of the card.

    Attributes:
        run: a run's folder, a .ckpt in it, or a folder with a saved model.
        repo: name of the model in the hub, user/name; it is created if it does not exist.
        private: true: a private repository.
        dry_run: true: write the folder into share/ of the run, and upload nothing.
        to: folder to write into; then nothing is uploaded.
        message: commit message of the upload.
    """

    run: str
    repo: str = ""
    private: bool = False
    dry_run: bool = False
    to: str | None = None
    message: str = MESSAGE


@dataclass(frozen=True)
class MeasuredModel:
    """Facts about a model from its run's folder, read as data.

    Attributes:
        metrics: final metrics, with those of `python -m clep.evaluate`, which win.
        coverage: counts by evaluator: what was measured, and what was left out.
        settings: the run's settings; empty where it left none.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    coverage: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "MeasuredModel":
        """Read metrics.json, coverage.json and config.yaml of a run, and the first two of its folder evaluate/.

        Raises:
            InputError: a file is damaged.
        """
        record = cls()
        for place in (folder, folder / "evaluate"):
            for name, into in (("metrics.json", record.metrics), ("coverage.json", record.coverage)):
                if (place / name).is_file():
                    content = read_json(place / name)
                    if not isinstance(content, dict):
                        raise InputError(f"{place / name} is not a JSON object; evaluate the run again")
                    into.update(content)
        record.settings.update(saved_settings(folder))
        return record

    def results(self) -> dict[str, float]:
        """Return the metrics of the final model, without those of training steps and from before training."""
        return {
            name.removeprefix("val/"): float(value)
            for name, value in sorted(self.metrics.items())
            if isinstance(value, int | float) and not name.startswith(_OTHER_METRICS)
        }


def write_share(run: str | Path, to: str | Path, repo: str = "", options: CardOptions | None = None) -> list[str]:
    """Write the folder to share, and return the names of its files.

    Paths of this machine stay out: of the run's settings only those of the model and a few of the training are shared.

    Args:
        run: a run's folder, a checkpoint, or a folder with a saved model.
        to: folder to write; made where it is missing.
        repo: name of the model in the hub, for the card.
        options: what the owner says about the model.

    Raises:
        InputError: there is no model, a file of it is damaged, or the folder cannot be written.
    """
    options, to = options or CardOptions(), Path(to)
    check_output(to)
    folder = run_folder(Path(run))
    with explain_refusal(folder, allowed(options.allow)):
        model = load_model(run, options.allow)
    record = MeasuredModel.read(folder)
    model.save_pretrained(to)
    files = [WEIGHTS, CONFIG]
    prompts = model.metadata.get("prompts")
    if (folder / PROMPTS).is_file():
        prompts = read_json(folder / PROMPTS)
    if prompts:
        write_json(to / PROMPTS, prompts)
        files.append(PROMPTS)
    for name in ("sentence_encoder", "bank_encoder"):
        if Path(str(model.metadata.get(name) or "")).is_absolute():
            log.warning("the model names its %s by a path of this machine: others cannot load it by that name", name)
    if not options.license:
        log.warning("the card names no licence, so nobody may use the weights; add license=NAME, e.g. cc-by-nc-4.0")
    with atomic_path(to / CARD) as temporary:
        temporary.write_text(model_card(model, record, repo or "user/name", options), encoding="utf-8")
    return [*files, CARD]


def share(
    run: str | Path,
    repo: str,
    options: CardOptions | None = None,
    private: bool = False,
    message: str = MESSAGE,
) -> str:
    """Write `share/` into the run's folder, upload it, and return its address in the hub.

    Raises:
        InputError: as `write_share`, there is no token, or the hub refuses the upload or cannot be reached.
    """
    check_token()
    to = run_folder(Path(run)) / "share"
    files = write_share(run, to, repo, options)
    return upload(to, repo, files, private, message)


def model_card(model: SavedModel, record: MeasuredModel, repo: str, options: CardOptions) -> str:
    """Return the model card: the hub's fields as YAML, and a page in Markdown."""
    fields: dict[str, Any] = {"library_name": "clep", "tags": ["clep", "egocentric-video", "video-text-retrieval"]}
    if options.license:
        fields["license"] = options.license
    if options.datasets:
        fields["datasets"] = list(options.datasets)
    sections = [
        f"---\n{yaml.safe_dump(fields, sort_keys=False)}---",
        f"# {repo.rpartition('/')[2]}",
        options.description or _summary(model),
        f"## How to load\n\n{_how_to_load(model, repo, options.allow)}",
        f"## Features and texts\n\n{_inputs(model)}",
        f"## Metrics\n\n{_metrics(record)}",
        f"## Training\n\n{_training(model, record)}",
        f"## Licence\n\n{_licence(options)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(model: SavedModel) -> str:
    kind = "A video–text dual encoder" if isinstance(model, DualEncoder) else f"A `{type(model).__name__}`"
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{kind} with {count:,} parameters, trained with clep."


def _how_to_load(model: SavedModel, repo: str, allow: Sequence[str]) -> str:
    also = f", allow={list(allow)!r}" if allow else ""
    if isinstance(model, DualEncoder):
        lines = [
            "import clep",
            "from clep.bank import FeatureBank",
            "",
            f'model = clep.load("{repo}"{also})',
            'model.embed_text(["C washes a cup"])',
            'model.search(FeatureBank.open("features.h5"), "washing a cup")',
        ]
    else:
        lines = [
            "from clep.hub import local_model",
            "from clep.models import load_model",
            "",
            f'model = load_model(local_model("{repo}"){also})',
        ]
    note = "\nNo code of this repository is run: the config names registered classes of clep only."
    own = f"\nThe model has parts of its own, which you need on the import path: {', '.join(allow)}."
    return "```python\n" + "\n".join(lines) + "\n```\n" + (own if allow else note)


def _inputs(model: SavedModel) -> str:
    about, video = model.metadata, (model.config or {}).get("video")
    dim = video.get("in_dim") if isinstance(video, dict) else None
    window = about.get("window")
    rows = {
        "video features of": about.get("bank_encoder"),
        "feature dimension": dim,
        "sentence encoder": about.get("sentence_encoder"),
        "narration tags": about.get("tag_style"),
        "window": coverage_text(window) if isinstance(window, dict) else None,
        "long-term context": coverage_text(about["context"]) if isinstance(about.get("context"), dict) else None,
    }
    return _table(("what", "value"), [(name, _name_only(value)) for name, value in rows.items() if value])


def _metrics(record: MeasuredModel) -> str:
    results = record.results()
    if not results:
        return "The run has no metrics; `python -m clep.evaluate ckpt=RUN` measures it."
    table = _table(("metric", "value"), [(f"`{name}`", f"{value:.2f}") for name, value in results.items()])
    covered = [
        (name, coverage_text(counts) if isinstance(counts, dict) else str(counts))
        for name, counts in record.coverage.items()
        if name != "data"
    ]
    return table + (f"\n\nWhat was measured:\n\n{_table(('benchmark', 'coverage'), covered)}" if covered else "")


def _training(model: SavedModel, record: MeasuredModel) -> str:
    rows = []
    for key in _TRAINING_KEYS:
        value: Any = record.settings
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):
            value = str(value.get(TARGET, "")).rpartition(".")[2]
        if value not in (None, "", {}):
            rows.append((f"`{key}`", value))
    data = record.coverage.get("data")
    for name, counts in data.items() if isinstance(data, dict) else ():
        rows.append((f"data: {name}", coverage_text(counts) if isinstance(counts, dict) else counts))
    return _table(("setting", "value"), rows) if rows else "The run left no settings."


def _licence(options: CardOptions) -> str:
    weights = f"Weights: {options.license}." if options.license else "Weights: no licence has been chosen yet."
    data = options.data_license or (
        "Data: the licences of the training videos, narrations and frozen encoders hold beside that of the weights."
    )
    return f"{weights}\n\n{data}"


def _table(head: tuple[str, str], rows: Sequence[tuple[str, Any]]) -> str:
    cells = [head, ("---", "---"), *rows]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in cells)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _name_only(value: Any) -> Any:
    """Return the last part of an absolute path, which names nothing on other machines."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _run(words: list[str]) -> None:
    """Write the folder, and upload it unless the words say otherwise."""
    options = ShareOptions(**read_options(ShareOptions, words, "clep.share", positional="run"))
    if options.to or options.dry_run:
        to = Path(options.to or run_folder(Path(options.run)) / "share")
        files = write_share(options.run, to, options.repo, options)
        log.info("wrote %s: %s; nothing was uploaded", to, ", ".join(files))
    elif not options.repo:
        raise InputError("repo=user/name is needed for an upload; to=DIR or dry_run=true only writes the folder")
    else:
        log.info("uploaded: %s", share(options.run, options.repo, options, options.private, options.message))


def main(arguments: list[str] | None = None) -> int:
    """Share from the command line, see `run_command`."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return run_command(_run, lambda _: USAGE.format(options=options_help(ShareOptions)), arguments)


if __name__ == "__main__":
    sys.exit(main())
