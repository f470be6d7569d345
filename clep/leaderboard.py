"""Published models on the field's benchmarks, beside the published values: `python -m clep.leaderboard`."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from clep.command_line import aligned, run_command, split_words
from clep.config.check import did_you_mean
from clep.config.compose import compose_config
from clep.config.help import commented_settings
from clep.config.mistakes import nearest_option
from clep.config.overrides import override, split_config_dir
from clep.datasets.charades_ego import read_classes, read_ego_charades
from clep.datasets.clip_spans import ClipSpans
from clep.errors import InputError
from clep.evaluate import evaluate, evaluate_banks
from clep.files import atomic_path, read_json, write_json
from clep.preprocess.__main__ import job_options
from clep.preprocess.job import Job, build_job
from clep.remote import exists
from clep.weights import sentence_model_name

log = logging.getLogger(__name__)

USAGE = """Measure published models, and runs of your own, on the field's benchmarks.

  python -m clep.leaderboard [models=[NAME,…]] [benchmarks=[NAME,…]] [paths.data=DIR] [out=FOLDER] [key=value …]

{options}

Models: {models}
Benchmarks: {benchmarks}

Missing banks are prepared: sentences are embedded, and clips are encoded if their videos exist. What cannot be run is
listed with what to download."""


@dataclass(frozen=True)
class Entry:
    """One model on one benchmark.

    Attributes:
        model, benchmark: titles.
        metrics: measured, in percent, by full name; empty where it could not be run.
        published: the published values, by metric: value, tolerance and source.
        coverage: on how much of the benchmark the metrics were measured.
        missing: why it could not be run, and what to download; "" where it was.
    """

    model: str
    benchmark: str
    metrics: dict[str, float] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    coverage: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


class MissingFilesError(InputError):
    """Files of a model or benchmark that have to be downloaded or made first."""


def run_leaderboard(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> list[Entry]:
    """Evaluate every chosen model on every chosen benchmark and write `leaderboard.md` and `leaderboard.json`.

    A model or benchmark whose files are missing or damaged does not stop the others; its entry says what is missing.

    Args:
        overrides: settings of `conf/leaderboard.yaml`.
        config_dir: folder of the user's own config, as Hydra's `--config-dir`.

    Raises:
        InputError: a model or benchmark is unknown, or the results cannot be written.
    """
    settings = _settings(overrides, config_dir)
    out = Path(settings["out"])
    entries = []
    for model in _chosen(settings, "models"):
        for benchmark in _chosen(settings, "benchmarks"):
            entries.append(_entry(settings, model, benchmark, out))
            log.info("%s on %s: %s", model, benchmark, entries[-1].missing or entries[-1].metrics)
            # After each pair, since a pair may take hours.
            write_json(out / "leaderboard.json", [asdict(entry) for entry in entries])
            with atomic_path(out / "leaderboard.md") as temporary:
                temporary.write_text(to_markdown(entries), encoding="utf-8")
    return entries


def to_markdown(entries: Sequence[Entry]) -> str:
    """Return the results as two tables: what was measured, and what could not be run."""
    lines = [
        "# Leaderboard",
        "",
        "| benchmark | model | metric | measured | published | difference | within tolerance | source | measured on |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for entry in entries:
        for metric, value in entry.metrics.items():
            known = entry.published.get(metric)
            beside = ["", "", "", ""]
            if known is not None:
                gap = value - known["value"]
                inside = "yes" if abs(gap) <= known["tolerance"] else f"no (± {known['tolerance']:g})"
                beside = [f"{known['value']:.1f}", f"{gap:+.2f}", inside, str(known["source"])]
            cells = [entry.benchmark, entry.model, metric, f"{value:.2f}", *beside, _measured_on(entry.coverage)]
            lines.append(f"| {' | '.join(cells)} |")
    missing = [entry for entry in entries if entry.missing]
    if missing:
        lines += ["", "## Not run", "", "| benchmark | model | what is missing |", "| --- | --- | --- |"]
        lines += [f"| {one.benchmark} | {one.model} | {one.missing.replace('|', '/')} |" for one in missing]
    return "\n".join(lines) + "\n"


def _measured_on(coverage: Mapping[str, Any]) -> str:
    have, every = (coverage.get(key) for key in ("clips with features", "clips"))
    return "" if have is None or every is None else f"{have:,} of {every:,} clips"


def _settings(overrides: Sequence[str], config_dir: str | Path | None) -> dict[str, Any]:
    cfg = compose_config("leaderboard", overrides, config_dir)
    try:
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error
    return settings


def _check_words(words: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse words that are no `key=value`, and keys that are no settings of this command.

    Raises:
        InputError: the message has the setting that may be meant.
    """
    names = {what: settings[f"known_{what}"] for what in ("models", "benchmarks")}
    _, others = split_words(words, settings, choices=names)
    for key in (word.partition("=")[0] for word in others):
        if re.split(r"[./]", key.lstrip("+~"))[0] not in settings:
            raise InputError(f"clep.leaderboard has no option {key!r}. {nearest_option(key, settings)}")


def _chosen(settings: Mapping[str, Any], what: str) -> list[str]:
    """Return the chosen names of models or benchmarks.

    Raises:
        InputError: a name is unknown, and no folder of a run.
    """
    known, given = settings[f"known_{what}"], settings[what]
    names = list(known) if given is None else [given] if isinstance(given, str) else [str(name) for name in given]
    for name in names:
        if name not in known and not (what == "models" and Path(name).exists()):
            also = ", and there is no such folder" if what == "models" else ""
            raise InputError(f"{what}={name} is unknown{also}. {did_you_mean(name, list(known))}")
    return names


def _entry(settings: Mapping[str, Any], name: str, benchmark: str, out: Path) -> Entry:
    about = settings["known_benchmarks"][benchmark]
    model = settings["known_models"].get(name)
    titles = (model["title"] + (f", {model['frames']} frames" if model.get("frames") else "")) if model else name
    published = {
        one["metric"]: {key: one[key] for key in ("value", "tolerance", "source")}
        for one in settings["published"]
        if one["model"] == name and one["metric"] in about["metrics"]
    }
    try:
        if model is None:
            found, folder = _run_of_ones_own(settings, name, benchmark, out)
        else:
            found, folder = _published_model(settings, name, model, benchmark, about, out)
    except InputError as error:
        hint = "" if isinstance(error, MissingFilesError) else f" Needed: {about['download']}."
        return Entry(titles, about["title"], published=published, missing=f"{error}{hint}".replace("\n", " "))
    coverage = read_json(folder / "coverage.json").get(benchmark, {})
    metrics = {metric: found[metric] for metric in about["metrics"] if metric in found}
    return Entry(titles, about["title"], metrics, published, coverage)


def _run_of_ones_own(
    settings: Mapping[str, Any], name: str, benchmark: str, out: Path
) -> tuple[dict[str, float], Path]:
    folder = out / Path(name).name / benchmark
    paths = [override(f"paths.{key}", value) for key, value in settings["paths"].items()]
    return evaluate(name, [f"evaluator={benchmark}", *paths], folder, settings["device"]), folder


def _published_model(
    settings: Mapping[str, Any],
    name: str,
    model: Mapping[str, Any],
    benchmark: str,
    about: Mapping[str, Any],
    out: Path,
) -> tuple[dict[str, float], Path]:
    """Prepare and measure a published model; its banks lie in `<out>/<model>/<benchmark>`.

    Raises:
        InputError: files are missing or cannot be used.
    """
    folder = out / name / benchmark
    text_encoder = f"{model['kind']}:{model['weights']}"
    tag_style = model.get("tag_style", "raw")
    paths = [override(f"paths.{key}", value) for key, value in settings["paths"].items()]
    charades = benchmark == "ego_charades"
    common = list(paths)
    if charades:
        common.append(override("csv", f"{settings['paths']['ego_charades']}/CharadesEgo_v1_test_only1st.csv"))
    tables = _tables(benchmark, tuple(common))
    missing = []
    if not Path(model["weights"]).exists():
        missing.append(f"no weights at {model['weights']}: download them ({model['download']})")
    if gone := [str(path) for path in tables if not exists(path)]:
        missing.append(f"no {', '.join(gone)}: download {about['download']}")
    if missing:
        raise MissingFilesError("; ".join(missing))
    common += [override("output_folder", str(folder)), override("text_encoder", text_encoder)]
    common.append(override("features", str(folder / "rows.h5")) if charades else override("tag_style", tag_style))
    job = build_job(job_options(benchmark, common))
    if charades:
        _write_film_spans(tables, folder / "clips.csv")
        _encode(settings, model, about, folder, folder / "rows.h5")
        job.run()
        banks = [override("evaluator.ego_charades.folder", str(folder))]
    else:
        job.run()
        _encode(settings, model, about, folder, folder / "features.h5")
        texts = folder / f"sentences.{sentence_model_name(text_encoder)}.h5"
        banks = [override(f"evaluator.{benchmark}.bank", str(folder / "features.h5"))]
        banks.append(override(f"evaluator.{benchmark}.texts", str(texts)))
        if benchmark == "egomcq":
            banks.append(override("evaluator.egomcq.similarity", model["similarity"]))
    words = ["model=joint_space", f"evaluator={benchmark}", *paths, *banks, override("tag_style", tag_style)]
    return evaluate_banks([*words, override("text_encoder", text_encoder)], folder, settings["device"]), folder


@cache
def _tables(benchmark: str, words: tuple[str, ...]) -> list[Path]:
    """Return the files of a benchmark that its job reads, without features."""
    job = build_job(job_options(benchmark, list(words)))
    features = getattr(job, "features", None)
    return [path for path in job.inputs() if features is None or path != Path(features)]


def _encode(
    settings: Mapping[str, Any], model: Mapping[str, Any], about: Mapping[str, Any], folder: Path, output: Path
) -> None:
    """Encode the clips of `clips.csv` with the model's video side, by the benchmark's job, unless the bank is there.

    Raises:
        InputError: there is neither the bank nor the folder of videos.
    """
    if output.exists():
        return
    words = [
        override("table", str(folder / "clips.csv")),
        override("videos", about["videos"]),
        override("output", str(output)),
        f"encoder={model['kind']}",
        override("encoder.weights", str(model["weights"])),
    ]
    words += [override(key, value) for key, value in about.get("extraction", {}).items()]
    if model.get("squash") and about["job"] == "clip_views":
        words.append("crops=centre")  # whole frames are squashed to the square, so there is nothing to crop
    if model.get("frames"):
        words.append(override("encoder.frames", model["frames"]))
    if not exists(about["videos"]):
        raise MissingFilesError(
            f"neither {output} nor the videos in {about['videos']}: download {about['download']}. The features: "
            f"python -m clep.preprocess {about['job']} {' '.join(words)}"
        )
    job: Job = build_job(job_options(about["job"], words))
    with job.lock():
        job.run()


def _write_film_spans(tables: Sequence[Path], path: Path) -> None:
    """Write whole films as spans: the published Charades-Ego evaluation samples its frames over the film.

    Raises:
        InputError: the csv lacks the length of a film.
    """
    csv, classes = tables[0], tables[-1]
    clips, seconds, _ = read_ego_charades([csv], read_classes(classes), classes)
    unknown = [name for name in clips.ids if name not in seconds]
    if unknown:
        raise InputError(f"{csv} has no length for {len(unknown)} videos, the first is {unknown[0]!r}; fetch it again")
    ends = np.array([seconds[name] for name in clips.ids])
    ClipSpans(clips.ids, clips.ids, np.zeros(len(clips)), ends).write_csv(path)


def _show(entries: Sequence[Entry], out: str) -> None:
    table = Table(title=f"{out}/leaderboard.md", title_justify="left")
    for name in ("benchmark", "model", "metric", "measured", "published"):
        table.add_column(name, justify="right" if name in ("measured", "published") else "left")
    for entry in entries:
        for metric, value in entry.metrics.items():
            known = entry.published.get(metric)
            published = "" if known is None else f"{known['value']:.1f}"
            table.add_row(entry.benchmark, entry.model, metric, f"{value:.2f}", published)
        if entry.missing:
            table.add_row(entry.benchmark, entry.model, entry.missing, "–", "", style="yellow")
    Console().print(table)


def _run(words: list[str]) -> None:
    words, config_dir = split_config_dir(words)
    _check_words(words, _settings([], config_dir))
    entries = run_leaderboard(words, config_dir)
    _show(entries, str(_settings(words, config_dir)["out"]))


def _usage(words: list[str]) -> str:
    settings = _settings([], split_config_dir(words)[1])
    known = {what: ", ".join(settings[f"known_{what}"]) for what in ("models", "benchmarks")}
    return USAGE.format(options=aligned(commented_settings("leaderboard")), **known)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, see `run_command`."""
    return run_command(_run, _usage, arguments, needs_words=False)


if __name__ == "__main__":
    sys.exit(main())
