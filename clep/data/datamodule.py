"""DataModules: banks on each rank's device, batches, and a sampler position that is stored in checkpoints."""

import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from clep.bank import FeatureBank
from clep.data.dataset import Batch, IndexOnlyDataset, MixedDataset, MomentDataset, Window, identity_collate
from clep.data.feature_check import check_features
from clep.data.long_term import LongTerm
from clep.data.relevant_texts import RelevantTexts
from clep.data.sampler import MomentBatchSampler, MomentKeys, SamplingStrategy
from clep.data.source import Source, attach_verb_noun_ids, share_text_keys
from clep.data.text_tokens import TextTokens, token_tables
from clep.errors import InputError
from clep.text import Taxonomy

log = logging.getLogger(__name__)

TEXTS_IN_RAM_BYTES = 2**30
"""Text embeddings of a source above this size stay on disk by default, memory-mapped: processes share mapped pages."""

SLOW_SHARE = 0.5
"""Share of an epoch's time that goes into waiting above which reading is slower than the step."""
SLOW_S = 5.0
"""Seconds of waiting in an epoch below which a warning would help nobody."""


class ResumableDataModule(pl.LightningDataModule):
    """DataModule that checkpoints its sampler position. Subclasses define `training_sampler`."""

    train_set: Any = None
    """Training set; a `BankDataset` where the loader yields indices."""
    val_set: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.train_sampler: MomentBatchSampler | None = None
        self._resume: dict[str, Any] | None = None

    def training_sampler(self) -> MomentBatchSampler:
        """Return the batch sampler of this rank."""
        raise NotImplementedError(f"{type(self).__name__} must define training_sampler()")

    @property
    def first_epoch(self) -> int:
        """The epoch that a fit starts with: 0, or that of the checkpoint it resumes from."""
        return 0 if self._resume is None else int(self._resume["epoch"])

    def resumed_sampler(self) -> MomentBatchSampler:
        """Create `train_sampler`, positioned by a loaded checkpoint, and return it."""
        self.train_sampler = self.training_sampler()
        if self._resume is not None:
            self._check_same_data(self._resume)
            self.train_sampler.resume(self._resume["epoch"], self._resume["batch"])
        return self.train_sampler

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to a device; if only its indices were loaded, look up its rows first, where the bank is."""
        if "seed" in batch:
            dataset = self.val_set if self.trainer is not None and not self.trainer.training else self.train_set
            indices = dict(batch)
            batch = dataset.gather(indices, int(indices.pop("seed")))
        return {key: value.to(device, non_blocking=True) for key, value in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler position: epoch, next batch, and the settings that the order depends on."""
        if self.train_sampler is None or self.trainer is None:
            return {}
        loop: Any = self.trainer.fit_loop
        epoch, batch = loop.epoch_progress.current.processed, loop.epoch_loop.batch_progress.current.processed
        if epoch > loop.epoch_progress.current.completed:
            epoch, batch = loop.epoch_progress.current.processed, 0
        elif batch >= len(self.train_sampler):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, "order": self.train_sampler.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the position of `state_dict`; called before the loader is made."""
        # The trainer does not know that this sampler resumes within an epoch.
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
        self._resume = state_dict or None

    def _check_same_data(self, state: dict[str, Any]) -> None:
        assert self.train_sampler is not None
        now, before = self.train_sampler.state(), state["order"]
        changed = [
            f"{key}: {before.get(key)} in the checkpoint, {now[key]} now" for key in now if now[key] != before.get(key)
        ]
        if changed:
            raise InputError(
                f"the run cannot resume exactly, because its data changed ({'; '.join(changed)}); restore them, or "
                f"start from the weights alone with init_from=PATH instead of ckpt_path"
            )

    def ranks(self) -> tuple[int, int]:
        """Return the rank of this process and the number of ranks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def rank_device(self, device: str) -> str:
        """Resolve "cuda" to the GPU of this rank; return other devices unchanged.

        Raises:
            InputError: "cuda", but the trainer does not run on a GPU.
        """
        if device == "cuda" and self.trainer is not None:
            root = self.trainer.strategy.root_device
            if root.type != "cuda":
                raise InputError(
                    f"data.device=cuda needs a GPU, but the trainer runs on {root}; use data.device=disk or cpu"
                )
            return str(root)
        return device


class EmptyValidationSet(Dataset[Batch]):
    """A single empty batch, so that the trainer runs the validation loop and thereby the evaluators."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Batch:
        return {}


class TimedDataLoader(DataLoader[Any]):
    """A DataLoader for training that measures how long its consumer waits for batches.

    The wait for the first batch of an epoch, in which workers start, does not count. Nor does one during which the GPU
    works on earlier steps: it costs no time.

    Attributes:
        waited_s: seconds of waiting in the last epoch.
        total_s: seconds from the first batch of the last epoch to its last one.
        steps: batches of the last epoch but the first.
    """

    waited_s, total_s, steps = 0.0, 0.0, 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches."""
        self.waited_s, self.total_s, self.steps = 0.0, 0.0, 0
        batches = iter(super().__iter__())
        try:
            batch = next(batches)
        except StopIteration:
            return
        first = time.perf_counter()
        while True:
            yield batch
            begin = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            end = time.perf_counter()
            if _device_is_idle():
                self.waited_s += end - begin
            self.total_s, self.steps = end - first, self.steps + 1


def _device_is_idle() -> bool:
    """Return whether the GPU, if one is used, has done all steps; does not wait for it."""
    return not torch.cuda.is_initialized() or bool(torch.cuda.current_stream().query())


def warn_of_slow_loading(loader: Any, epoch: int) -> None:
    """Log a warning if most of an epoch's time went into waiting for batches.

    Args:
        loader: of the epoch; any but a `TimedDataLoader` is ignored.
        epoch: its number, for the message.
    """
    if not isinstance(loader, TimedDataLoader) or loader.waited_s < SLOW_S:
        return
    share = loader.waited_s / loader.total_s
    if share > SLOW_SHARE:
        log.warning(
            "epoch %d: %.0f %% of the time went into waiting for batches, %.1f of %.1f ms a step: reading is slower "
            "than the step. Use more loader processes (data.num_workers), a faster disk, or for a bank that fits RAM "
            "(data.device=cpu) or the GPU (data.device=cuda)",
            *(epoch, 100 * share, 1e3 * loader.waited_s / loader.steps, 1e3 * loader.total_s / loader.steps),
        )


class MomentDataModule(ResumableDataModule):
    """Training and validation batches of moments from one or several sources.

    Args:
        sources: sources by name; several are mixed by their `weight`.
        window: which rows around a moment are the video side of a batch.
        batch_size: moments per batch on each rank.
        device: storage of the video bank: "disk" (memory-mapped), "cpu" (RAM), or "cuda" (the rank's GPU, where batches
            are then gathered).
        text_device: storage of the text embeddings; None for `device` if that is a GPU, else "cpu" for up to 1 GiB of
            them (`TEXTS_IN_RAM_BYTES`), which each process loads, and "disk" for more.
        shuffle, drop_last, seed: see `MomentBatchSampler`.
        num_workers: loader processes. 0 is fastest unless the disk is slow: passing tensors between processes costs
            more than the gather.
        val_batch_size: batch size of the validation loss; None for `batch_size`, or fewer if fewer moments are held
            out.
        context: which rows around each moment are its long-term context, for a model with a `LongTermTower`; None for
            no context. It adds `batch_size * window_s * per_second` rows to a batch.
        sampler: arranges moments into batches: `UniqueTexts`, `SceneAware`, `HardNegatives`; None for random batches.
        verb_noun: source of the keys `verb` and `noun`: "given" takes the ids of the narrations file, "taxonomy"
            matches the groups of `taxonomy` in the texts; None for no such keys.
        taxonomy: the taxonomy for `verb_noun="taxonomy"`.
        tokens: how texts are tokenized, for a `SentenceTower`, which fine-tunes the encoder; None for no tokens.
        relevant_texts: replace each text by a random one whose relevancy for it exceeds this value (`RelevantTexts`);
            None keeps the paired text.

    Raises:
        InputError: no source, or a batch of fewer than 2 moments.

    Examples:
        >>> from clep.data import MomentDataModule, NarrationSource
        >>> source = NarrationSource("narrations.arrow", "texts.h5", "features.h5", val_fraction=0.25)
        >>> data = MomentDataModule({"kitchen": source}, batch_size=16)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["video"].shape, batch["text"].shape
        (torch.Size([16, 12]), torch.Size([16, 8]))
    """

    def __init__(
        self,
        sources: dict[str, Source],
        window: Window | None = None,
        batch_size: int = 512,
        device: str = "disk",
        text_device: str | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        context: LongTerm | None = None,
        sampler: SamplingStrategy | None = None,
        verb_noun: Literal["given", "taxonomy"] | None = None,
        taxonomy: Taxonomy | None = None,
        tokens: TextTokens | None = None,
        relevant_texts: float | int | None = None,
    ) -> None:
        super().__init__()
        if not sources:
            raise InputError("data.sources is empty; add at least one source of moments")
        if batch_size < 2:
            raise InputError(f"data.batch_size={batch_size}: a contrastive batch needs at least 2 moments")
        self.sources, self.window, self.context = dict(sources), window or Window(), context
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.device, self.text_device = device, text_device
        self.shuffle, self.drop_last, self.seed, self.num_workers = shuffle, drop_last, seed, num_workers
        self.strategy, self.verb_noun, self.taxonomy, self.tokens = sampler, verb_noun, taxonomy, tokens
        if relevant_texts is not None and verb_noun is None:
            raise InputError(
                "data.relevant_texts compares verbs and nouns: set data.verb_noun=given or data.verb_noun=taxonomy"
            )
        self.relevant_texts = relevant_texts
        self.train_set: MomentDataset | MixedDataset | None = None
        self.val_set: MomentDataset | MixedDataset | None = None

    @property
    def parts(self) -> list[MomentDataset]:
        """The training set of each source."""
        assert self.train_set is not None, "setup() comes first"
        return self.train_set.parts if isinstance(self.train_set, MixedDataset) else [self.train_set]

    @property
    def dims(self) -> tuple[int, int]:
        """Feature dimensions of video rows and text embeddings; works before `setup`."""
        source = next(iter(self.sources.values()))
        return FeatureBank.open(source.bank_path).dim, FeatureBank.open(source.texts_path).dim

    @property
    def bank_encoder(self) -> str:
        """Name of the frozen video encoder of the banks.

        Raises:
            InputError: the sources' banks come from different encoders.
        """
        encoders = {source.bank_path: FeatureBank.open(source.bank_path).encoder for source in self.sources.values()}
        if len(set(encoders.values())) > 1:
            raise InputError(
                f"data.sources have banks of different encoders, but one model needs one encoder: {encoders}"
            )
        return next(iter(encoders.values()))

    @property
    def text_bank_encoder(self) -> str:
        """Name of the sentence encoder recorded in the text banks; "" if none is recorded.

        Raises:
            InputError: the sources' texts were embedded by different encoders.
        """
        names = {source.texts_path: FeatureBank.open(source.texts_path).encoder for source in self.sources.values()}
        if len(set(names.values())) > 1:
            raise InputError(
                f"data.sources have texts of different sentence encoders, but one model needs one: {names}"
            )
        return next(iter(names.values()))

    def metadata(self, text_encoder: str) -> dict[str, Any]:
        """Return the metadata of a model trained on this data, with which later inputs are compared.

        Args:
            text_encoder: name or path of the sentence encoder of the text embeddings.
        """
        metadata = {
            "sentence_encoder": text_encoder,
            "tag_style": self._tag_style(),
            "bank_encoder": self.bank_encoder,
            "bank_dim": self.dims[0],
            "bank_rows_per_second": self._rows_per_second(),
            "text_bank_encoder": self.text_bank_encoder,
            "window": self.window.to_dict(),
        }
        return metadata if self.context is None else metadata | {"context": self.context.to_dict()}

    def _rows_per_second(self) -> float | None:
        """Return the rate of the banks' rows; None where it is irregular or differs."""
        clocks = [FeatureBank.open(source.bank_path).clock for source in self.sources.values()]
        rates = {None if clock is None else clock.rows_per_second for clock in clocks}
        return rates.pop() if len(rates) == 1 else None

    def _tag_style(self) -> str:
        styles = {name: source.tag_style for name, source in self.sources.items()}
        if len(set(styles.values())) > 1:
            raise InputError(f"data.sources have narrations with tags of different styles: {styles}")
        return next(iter(styles.values()))

    @property
    def report(self) -> dict[str, Any]:
        """Counts of each source: moments, and narrations dropped by reason."""
        return {name: source.report for name, source in self.sources.items()}

    def setup(self, stage: str | None = None) -> None:
        """Open the banks, once, on the device of this rank."""
        if self.train_set is not None:
            return
        device = self.rank_device(self.device)
        opened = [
            source.open(self.window, device, self._device_of_texts(source, device), self.context)
            for source in self.sources.values()
        ]
        for source, (part, _) in zip(self.sources.values(), opened, strict=True):
            check_features(part.bank, "row", "extract the features of these videos again")
            check_features(part.texts, "text embedding", f"embed the texts of {source.title} again")
        train, val = [part for part, _ in opened], [part for _, part in opened if part is not None]
        if len(opened) > 1:
            share_text_keys(train, list(self.sources.values()))
            keyed = [part for part, (_, held_out) in zip(train, opened, strict=True) if held_out is not None]
            for part, held_out in zip(keyed, val, strict=True):
                held_out.text_key = part.text_key
        if self.verb_noun is not None:
            of_source = list(zip(self.sources.items(), opened, strict=True))
            attach_verb_noun_ids([(*named, parts) for named, parts in of_source], self.verb_noun, self.taxonomy)
        if self.relevant_texts is not None:
            for part in train:
                candidates = torch.zeros(part.texts.n_rows, dtype=torch.bool)
                candidates[part.moments.text_id] = True
                part.relevant_texts = RelevantTexts(
                    part.verb_noun_ids["verb"], part.verb_noun_ids["noun"], candidates, self.relevant_texts
                )
        if self.tokens is not None:
            tables = token_tables({name: source.sentences() for name, source in self.sources.items()}, self.tokens)
            for table, datasets in zip(tables, opened, strict=True):
                for dataset in datasets:
                    if dataset is not None:
                        dataset.tokens = table
        self.train_set = MixedDataset(train) if len(train) > 1 else train[0]
        self.val_set = (MixedDataset(val) if len(val) > 1 else val[0]) if val else None

    def _device_of_texts(self, source: Source, device: str) -> str:
        if self.text_device is not None or device.startswith("cuda"):
            return self.rank_device(self.text_device or "cuda")
        texts = FeatureBank.open(source.texts_path)
        return "cpu" if texts.n_rows * texts.dim * texts.dtype.itemsize <= TEXTS_IN_RAM_BYTES else "disk"

    def training_sampler(self) -> MomentBatchSampler:
        """Return the batch sampler of this rank."""
        weights = [source.weight for source in self.sources.values()]
        given = [float(weight) for weight in weights if weight is not None]
        if given and len(given) < len(weights):
            raise InputError("only some of data.sources have a weight; give one to every source, or to none")
        sizes = [len(part) for part in self.parts]
        shares = given if len(given) > 1 else None
        rank, world_size = self.ranks()
        if self.strategy is not None and sum(sizes) >= self.batch_size * world_size:
            self.strategy.open(self.moment_keys(), self.batch_size * world_size, self.batch_size)
        return MomentBatchSampler(
            *(sizes, self.batch_size, shares, self.shuffle, self.drop_last, self.seed, rank, world_size),
            strategy=self.strategy,
        )

    def moment_keys(self) -> MomentKeys:
        """Return the properties of the training moments for a `SamplingStrategy`."""
        text, video, second, n_videos = [], [], [], 0
        for part in self.parts:
            moments = part.moments
            text_id = torch.from_numpy(moments.text_id)
            text.append(text_id if part.text_key is None else part.text_key.cpu()[text_id])
            index = torch.unique(torch.from_numpy(moments.source_video), return_inverse=True)[1]
            video.append(n_videos + index)
            n_videos += int(index.max()) + 1 if len(index) else 0
            second.append(torch.from_numpy((moments.start_s + moments.end_s) / 2))
        sizes = [len(part) for part in self.parts]
        return MomentKeys(torch.cat(text), torch.cat(video), torch.cat(second), sizes)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of training batches; the trainer must not replace its sampler by a distributed one."""
        assert self.train_set is not None
        return self._loader(self.train_set, self.resumed_sampler())

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of validation batches in a fixed random order, or of an `EmptyValidationSet`."""
        if self.val_set is None:
            return DataLoader(EmptyValidationSet(), batch_size=None)
        rank, world_size = self.ranks()
        size = min(self.val_batch_size or self.batch_size, len(self.val_set) // world_size)
        if size < 1:
            raise InputError(
                f"{len(self.val_set)} held-out moments are too few for {world_size} ranks; raise val_fraction"
            )
        parts = self.val_set.parts if isinstance(self.val_set, MixedDataset) else [self.val_set]
        sampler = MomentBatchSampler([len(part) for part in parts], size, rank=rank, world_size=world_size)
        # A list, so that the order is the same in every epoch of the trainer.
        return self._loader(self.val_set, list(sampler), workers=0)

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler position and the state of the sampling strategy."""
        position = super().state_dict()
        return (
            position if self.strategy is None or not position else {**position, "sampler": self.strategy.state_dict()}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the position of `state_dict`; called before the loader is made."""
        super().load_state_dict(state_dict)
        if self.strategy is not None and "sampler" in state_dict:
            self.strategy.load_state_dict(state_dict["sampler"])

    def _loader(
        self, dataset: MomentDataset | MixedDataset, sampler: Any, workers: int | None = None
    ) -> TimedDataLoader:
        parts = dataset.parts if isinstance(dataset, MixedDataset) else [dataset]
        on_gpu = any(bank.device.type == "cuda" for part in parts for bank in (part.bank, part.texts))
        workers = self.num_workers if workers is None else workers
        return TimedDataLoader(
            IndexOnlyDataset(dataset) if on_gpu else dataset,
            batch_sampler=sampler,
            collate_fn=identity_collate,
            num_workers=0 if on_gpu else workers,
            persistent_workers=workers > 0 and not on_gpu,
            pin_memory=torch.cuda.is_available(),
        )
