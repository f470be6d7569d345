"""Linear probe and nearest neighbours on frozen features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from clep.bank import BankWriter, Clock
from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation import LinearProbe, NearestNeighbours
from clep.evaluation.probes import fit_linear_probe
from clep.models import DualEncoder

MODEL = DualEncoder(torch.nn.Identity(), torch.nn.Identity())


def write(folder: Path, noise: float = 1.0, classes: int = 4, clips: int = 240, dim: int = 10, lacking: int = 0):
    """Write clusters around a centre a class, far from the origin; return rows and labels of train and test."""
    random = np.random.default_rng(0)
    centres = 3 * random.standard_normal((classes, dim))
    label = np.arange(clips) % classes
    rows = (100 + centres[label] + noise * random.standard_normal((clips, dim))).astype(np.float32)
    with BankWriter(folder / "features.h5", dim, Clock(1.0, 1.0), "float32") as writer:
        for i in range(lacking, clips):
            writer.add(f"c{i}", rows[i : i + 1])
    for name, parity in (("train", 0), ("test", 1)):
        lines = [f"c{i},k{label[i]}" for i in range(clips) if (i // classes) % 2 == parity]
        (folder / f"{name}.csv").write_text("\n".join(["clip,label", *lines]) + "\n")
    return rows, label


def paths(folder: Path) -> list[Path]:
    return [folder / "train.csv", folder / "test.csv", folder / "features.h5"]


def test_neighbours_vote_as_a_loop_over_clips_says(tmp_path: Path) -> None:
    rows, label = write(tmp_path, noise=4.0)
    train = [i for i in range(len(label)) if (i // 4) % 2 == 0]
    test = [i for i in range(len(label)) if (i // 4) % 2 == 1]
    unit = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    right = []
    for i in test:
        cosines = {j: unit[i] @ unit[j] for j in train}
        votes = dict.fromkeys(range(4), 0.0)
        for j in sorted(cosines, key=lambda j: -cosines[j])[:7]:
            votes[label[j]] += np.exp(cosines[j] / 0.05)
        right.append(max(votes, key=lambda c: votes[c]) == label[i])
    found = NearestNeighbours(*paths(tmp_path), k=7, temperature=0.05).run(MODEL)
    assert found["knn/table/top1"] == pytest.approx(100 * np.mean(right))
    assert 30 < found["knn/table/top1"] < 100


def test_the_probe_separates_clusters_that_are_far_from_the_origin(tmp_path: Path) -> None:
    write(tmp_path)
    one = LinearProbe(*paths(tmp_path), name="clusters")
    found = one.run(MODEL)
    assert found["probe/clusters/top1"] > 95
    assert found["probe/clusters/mean_class_accuracy"] == pytest.approx(found["probe/clusters/top1"])
    assert one.coverage["clips"] == one.coverage["clips with features"] == 120
    assert one.coverage["held-out clips"] == 12
    assert LinearProbe(*paths(tmp_path), name="clusters").run(MODEL) == found


def test_the_update_is_adam(tmp_path: Path) -> None:
    """One classifier, one learning rate and whole batches, against torch.optim.Adam."""
    rows, label = write(tmp_path, noise=4.0)
    # Classes of unequal size: else the biases' first gradient is rounding alone, which Adam divides by itself.
    unbalanced = (label != 3) | (np.arange(len(label)) < 120)
    data, target = torch.from_numpy(rows)[unbalanced], torch.from_numpy(label)[unbalanced]
    epochs = 5
    predict, chosen = fit_linear_probe(data, target, 4, (0.01,), 0.25, epochs, epochs, 1000, 3)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(len(target), generator=generator)
    check = torch.zeros(len(target), dtype=torch.bool)
    for value in range(4):
        own = order[target[order] == value]
        check[own[: round(0.25 * len(own))]] = True
    mean, std = data[~check].mean(0), data[~check].std(0, correction=0)
    layer = torch.nn.Linear(10, 4)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    found = []
    for _ in range(epochs):
        optimizer.zero_grad()
        functional.cross_entropy(layer((data[~check] - mean) / std), target[~check]).backward()
        optimizer.step()
        found.append(layer((data - mean) / std).detach())
    accuracy = [float((one.argmax(1) == target)[check].float().mean()) for one in found]
    best = int(np.argmax(accuracy))
    assert chosen["epoch"] == best + 1
    assert chosen["held-out top1"] == pytest.approx(100 * accuracy[best], abs=0.01)
    torch.testing.assert_close(predict(data), found[best], rtol=1e-4, atol=1e-4)


def test_missing_clips_are_counted(tmp_path: Path) -> None:
    write(tmp_path, lacking=8)
    one = NearestNeighbours(*paths(tmp_path))
    one.run(MODEL)
    assert (one.coverage["training clips"], one.coverage["training clips with features"]) == (120, 116)
    assert (one.coverage["clips"], one.coverage["clips with features"]) == (120, 116)


def test_a_file_of_labelled_clips_serves_as_a_list(tmp_path: Path) -> None:
    rows, label = write(tmp_path)
    expected = NearestNeighbours(*paths(tmp_path)).run(MODEL)
    for name, parity in (("train", 0), ("test", 1)):
        part = [i for i in range(len(label)) if (i // 4) % 2 == parity]
        ids = [f"c{i}" for i in part]
        clips = LabelledClips("mine", ids, [f"k{i}" for i in range(4)], label=label[part].astype(np.int64))
        clips.write(tmp_path / f"{name}.h5")
    found = NearestNeighbours(tmp_path / "train.h5", tmp_path / "test.h5", tmp_path / "features.h5").run(MODEL)
    assert found == expected
    assert len(rows) == 240


def test_what_cannot_be_probed_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "other.csv").write_text("clip,label\nx,k0\n")
    with pytest.raises(InputError, match=r"features.h5 has none of the 1 labelled clips \('x', …\)"):
        NearestNeighbours(tmp_path / "train.csv", tmp_path / "other.csv", tmp_path / "features.h5").run(MODEL)
    (tmp_path / "other.csv").write_text("clip,label\nc1,k9\n")
    with pytest.raises(InputError, match="line 2: the label 'k9' is not among the 4 classes"):
        LinearProbe(tmp_path / "train.csv", tmp_path / "other.csv", tmp_path / "features.h5").run(MODEL)
    (tmp_path / "other.csv").write_text("clip,label\nc1,k0\nc2,k1\n")
    with pytest.raises(InputError, match="2 training clips are too few to hold some out"):
        LinearProbe(tmp_path / "other.csv", tmp_path / "other.csv", tmp_path / "features.h5").run(MODEL)
    with pytest.raises(InputError, match=r"learning_rates=\[\]"):
        LinearProbe(*paths(tmp_path), learning_rates=[])
