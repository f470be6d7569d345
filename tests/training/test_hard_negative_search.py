"""Neighbours are those of the present weights, the same on every rank, and those of a run that was not interrupted."""

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import multiprocessing

from clep.data import HardNegatives, MomentDataModule, SceneAware
from clep.errors import InputError
from clep.training import ContrastiveModule, HardNegativeSearch
from tests.tiny_source import write_tiny_files
from tests.training.test_resume import Seen, checkpoint_every
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def search(**options: Any) -> HardNegativeSearch:
    return HardNegativeSearch(**{"moments": 5, **options})


def data(folder: Path, **options: Any) -> MomentDataModule:
    return tiny_data(folder / "files", sampler=HardNegatives(videos=2), **options)


class Found(pl.Callback):
    """Note the neighbours of each epoch and the weights that they were found with."""

    def __init__(self) -> None:
        self.neighbours: list[torch.Tensor] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.modes: list[bool] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.neighbours.append(trainer.datamodule.strategy.neighbours)
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        self.modes.append(all(module.training for module in pl_module.modules()))


def slow_neighbours(
    module: ContrastiveModule, data: MomentDataModule, chosen: torch.Tensor, near: int
) -> list[list[int]]:
    """Embed one moment after the other and sort all similarities."""
    module.eval()
    strategy = data.strategy
    sums: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for moment in chosen.tolist():
            batch = data.train_set.__getitems__([moment])
            both = module.model.encode_video(batch)[0] + module.model.encode_text(batch)[0]
            video = int(strategy.video_of_moment[moment])
            sums[video] = sums.get(video, 0) + both.double().numpy()
    unit = np.stack([sums[video] / np.linalg.norm(sums[video]) for video in range(len(sums))])
    similarity = unit @ unit.T + 10 * np.eye(len(unit))
    return np.argsort(-similarity, axis=1)[:, :near].tolist()


@pytest.mark.parametrize("every_epochs", [1, 2])
def test_neighbours_are_those_of_the_weights_that_an_epoch_starts_with(tmp_path: Path, every_epochs: int) -> None:
    found, given, module = Found(), data(tmp_path), tiny_module()
    tiny_trainer(tmp_path, callbacks=[search(every_epochs=every_epochs), found]).fit(module, datamodule=given)
    assert len(found.neighbours) == 3
    assert all(found.modes)
    for epoch in range(3):
        searched = epoch // every_epochs * every_epochs
        module.load_state_dict(found.weights[searched])
        chosen = given.strategy.some_of_each(5, given.seed, searched)
        assert found.neighbours[epoch].tolist() == slow_neighbours(module, given, chosen, 4)
    assert not torch.equal(found.neighbours[0], found.neighbours[2])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen, ContrastiveModule]:
    """A run of 24 steps with a checkpoint of each, in its folder."""
    folder, whole, module = tmp_path_factory.mktemp("whole"), Seen(), tiny_module()
    every = checkpoint_every(folder, every_n_train_steps=1)
    trainer = tiny_trainer(folder, callbacks=[search(), whole, every])
    trainer.fit(module, datamodule=data(folder))
    assert trainer.global_step == 24
    return folder, whole, module


@pytest.mark.parametrize(("steps_before", "workers"), [(4, 0), (8, 0), (8, 2)])
def test_resumed_equals_uninterrupted(
    uninterrupted: tuple[Path, Seen, ContrastiveModule], tmp_path: Path, steps_before: int, workers: int
) -> None:
    folder, whole, module = uninterrupted
    rest, resumed = Seen(), tiny_module()
    resumer = tiny_trainer(tmp_path, callbacks=[search(), rest])
    path = folder / f"step={steps_before}.ckpt"
    resumer.fit(resumed, datamodule=data(folder, num_workers=workers), ckpt_path=path, weights_only=True)
    assert rest.steps == whole.steps[steps_before:]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in module.state_dict().items())


def test_the_search_logs_a_summary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = data(tmp_path)
    with caplog.at_level(logging.INFO):
        trainer = tiny_trainer(tmp_path, callbacks=[search()], max_epochs=1)
        trainer.fit(tiny_module(), datamodule=given)
    videos = len(np.unique(given.parts[0].moments.video))
    assert f"hard negatives for epoch 0: the 4 nearest of each of {videos} videos" in caplog.text


def test_a_second_fit_on_the_same_data_searches_again(tmp_path: Path) -> None:
    given, found = data(tmp_path), [Found(), Found()]
    for number, one in enumerate(found):
        module = tiny_module()
        for parameter in module.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
        tiny_trainer(tmp_path / str(number), callbacks=[search(), one], max_epochs=1).fit(module, datamodule=given)
        module.load_state_dict(one.weights[0])
        chosen = given.strategy.some_of_each(5, given.seed, 0)
        assert one.neighbours[0].tolist() == slow_neighbours(module, given, chosen, 4)
    assert not torch.equal(found[0].neighbours[0], found[1].neighbours[0])


def test_the_search_encodes_at_most_a_batch_at_once(tmp_path: Path) -> None:
    module, sizes = tiny_module(chunk_size=3), []
    encode = module.model.encode_text
    module.model.encode_text = lambda batch: (sizes.append(len(batch["text"])), encode(batch))[1]
    tiny_trainer(tmp_path, callbacks=[search()], max_epochs=1).fit(module, datamodule=data(tmp_path))
    assert max(sizes) == 3


def test_a_non_finite_moment_is_no_neighbour(tmp_path: Path) -> None:
    given, module, found = data(tmp_path), tiny_module(), Found()
    encode, bad = module.model.encode_video, []

    def with_nan(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        embedded = encode(batch).clone()
        bad.append(module.training)
        if not module.training:
            embedded[torch.from_numpy(given.strategy.video_of_moment)[batch["moment"]] == 0] = torch.nan
        return embedded

    module.model.encode_video = with_nan
    tiny_trainer(tmp_path, callbacks=[search(), found], max_epochs=1).fit(module, datamodule=given)
    assert False in bad
    nearest = found.neighbours[0][:, 1]
    assert (nearest[1:] != 0).sum() >= len(nearest) // 2


def test_resuming_with_another_sampler_is_refused(tmp_path: Path) -> None:
    every = checkpoint_every(tmp_path, every_n_train_steps=4)
    scene = tiny_data(tmp_path / "files", sampler=SceneAware())
    tiny_trainer(tmp_path, callbacks=[every], max_epochs=1).fit(tiny_module(), datamodule=scene)
    trainer = tiny_trainer(tmp_path, callbacks=[search()])
    with pytest.raises(InputError, match="scene_aware"):
        trainer.fit(tiny_module(), datamodule=data(tmp_path), ckpt_path=tmp_path / "step=4.ckpt", weights_only=True)


def test_a_search_without_its_sampler_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"choose sampler=hard_negatives, or remove the callback with ~callbacks"):
        tiny_trainer(tmp_path, callbacks=[search()]).fit(tiny_module(), datamodule=tiny_data(tmp_path / "files"))
    with pytest.raises(InputError, match=r"callbacks\.hard_negatives: every_epochs=0"):
        HardNegativeSearch(every_epochs=0)


def run_rank(rank: int, port: int, folder: str) -> None:
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    found, seen, given = Found(), Seen(), data(Path(folder), batch_size=10)
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 2, "plugins": [LightningEnvironment()]}
    tiny_trainer(Path(folder), callbacks=[search(), found, seen], **options).fit(tiny_module(), datamodule=given)
    here = {
        "neighbours": [near.tolist() for near in found.neighbours],
        "steps": [moments for moments, _ in seen.steps],
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(here))


def test_two_ranks_find_the_neighbours_of_one(tmp_path: Path) -> None:
    write_tiny_files(tmp_path / "files")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(run_rank, (port, str(tmp_path)), nprocs=2, start_method="forkserver")
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    found, seen = Found(), Seen()
    trainer = tiny_trainer(tmp_path, callbacks=[search(), found, seen], max_epochs=2)
    trainer.fit(tiny_module(dropout=0.0), datamodule=data(tmp_path))
    assert ranks[0]["neighbours"] == ranks[1]["neighbours"]
    assert ranks[0]["neighbours"][0] == found.neighbours[0].tolist()
    joined = [one + other for one, other in zip(ranks[0]["steps"], ranks[1]["steps"], strict=True)]
    assert joined[:8] == [moments for moments, _ in seen.steps[:8]]
