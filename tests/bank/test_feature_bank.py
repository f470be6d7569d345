import math
import multiprocessing
import pickle
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank, feature_bank
from clep.errors import InputError
from tests.bank.banks import opened, random_videos, write


@pytest.fixture(params=["disk", "cpu", "lmdb"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureBank:
    with BankWriter(tmp_path / "b.h5", 6, Clock(), encoder="omnivore", source="clips") as writer:
        for uid, rows in random_videos(20).items():
            writer.add(uid, rows, duration_s=(len(rows) - 1.4) / 1.875 + 32 / 30 if len(rows) > 2 else None)
    return opened(tmp_path / "b.h5", request.param)


def test_properties_of_a_bank(bank: FeatureBank, tmp_path: Path) -> None:
    videos = random_videos(20)
    assert bank.videos == list(videos)
    assert len(bank) == 20
    assert bank.n_rows == sum(map(len, videos.values()))
    assert (bank.dim, bank.clock, bank.encoder, bank.source) == (6, Clock(), "omnivore", "clips")
    assert (bank.path, bank.device, bank.dtype) == (tmp_path / "b.h5", torch.device("cpu"), torch.float16)
    assert bank.storage in ("disk", "cpu", "lmdb")
    assert bank.first_row.dtype == torch.int64
    assert bank.duration_s.dtype == torch.float64
    assert "20 videos" in repr(bank)


def test_index(bank: FeatureBank) -> None:
    assert bank.index(["v0_3", "nobody", "v0_0"]).tolist() == [3, -1, 0]
    assert bank.index(np.array(["v0_1"])).tolist() == [1]
    assert bank.index([]).tolist() == []


@pytest.mark.parametrize("count", [200, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("align", ["centre", "start"])
def test_windows_are_those_of_the_clock_in_each_video(bank: FeatureBank, align: str, count: int) -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 20, count)
    start = rng.uniform(-2, 25, count)
    end = np.maximum(start, 0) + rng.exponential(1, count)
    first, last = bank.window(video, start, end, align)
    rows, begin = random_videos(20), bank.first_row.numpy()
    for i, v in enumerate(video):
        n = len(rows[f"v0_{v}"])
        own = bank.clock.window(start[i], end[i], n, float(bank.duration_s[v]), align)
        assert (int(first[i]), int(last[i])) == (own[0] + begin[v], own[1] + begin[v])
        assert begin[v] <= first[i] < last[i] <= begin[v + 1]


def test_gathers_agree_with_slices(bank: FeatureBank) -> None:
    whole = np.concatenate(list(random_videos(20).values())).astype(np.float64)
    video, start = torch.arange(20), torch.rand(20, dtype=torch.float64) * 10
    first, last = bank.window(video, start, start + 4)
    mean = bank.mean(first, last)
    rows, mask = bank.rows(first, last, 10)
    assert mean.dtype == rows.dtype == bank.take(first).dtype == torch.float32
    assert rows.shape == (20, 10, 6)
    for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        np.testing.assert_allclose(mean[i], whole[a:b].mean(0), rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(rows[i, : b - a], whole[a:b])
        assert mask[i].tolist() == [True] * (b - a) + [False] * (10 - b + a)
        assert not rows[i, b - a :].any()
    np.testing.assert_array_equal(bank.take(first), whole[first])
    np.testing.assert_array_equal(bank.take(3), whole[3:4])


def test_long_term_rows_are_the_video_s_own(bank: FeatureBank) -> None:
    video, second = torch.arange(20), torch.rand(20, dtype=torch.float64) * 20
    rows, mask = bank.long_term(video, second, window_s=6, per_second=2)
    assert rows.shape == (20, 12, 6)
    assert not rows[~mask].any()
    for v in range(20):
        own = bank.video_rows(f"v0_{v}")
        starts = bank.clock.row_starts(len(own), float(bank.duration_s[v]))
        for k in range(6):
            here = np.flatnonzero(np.floor(starts) == math.floor(second[v]) - 3 + k)[:2]
            assert rows[v, 2 * k : 2 * k + len(here)].equal(own[here])
            assert mask[v, 2 * k : 2 * k + 2].tolist() == [j < len(here) for j in range(2)]


def test_a_video_that_is_missing(bank: FeatureBank) -> None:
    video = bank.index(["v0_1", "nobody", "v0_0", "nowhere"])
    with pytest.raises(InputError, match=r"2 of 4 moments .*b\.h5 lacks \(index -1 at position 1\).*bank\.index"):
        bank.window(video, torch.zeros(4), torch.ones(4))
    with pytest.raises(InputError, match="2 of 4 moments"):
        bank.long_term(video, torch.zeros(4))
    with pytest.raises(InputError, match="index 20 at position 0"):
        bank.window([20], [0.0], [1.0])
    with pytest.raises(InputError, match=r"no rows of video 'nobody'"):
        bank.video_rows("nobody")


def test_a_missing_video_s_context_may_be_skipped(bank: FeatureBank) -> None:
    video, second = bank.index(["v0_1", "nobody", "v0_0"]), [3.0, 3.0, 1e6]
    rows, mask = bank.long_term(video, second, 8, 2, on_missing="skip")
    assert mask.any(1).tolist() == [True, False, False]  # the last is far outside its video
    assert rows[0].equal(bank.long_term([1], [3.0], 8, 2)[0][0])
    assert not rows[1:].any()
    for pool in ("mean", "max"):
        look = partial(bank.long_term_pooled, pool=pool)
        found, real = look(video, second, 8, 2, on_missing="skip")
        assert real.tolist() == [True, False, False]
        assert found.dtype == torch.float32
        assert not found[1:].any()
        with pytest.raises(InputError, match=r"1 of 3 moments .*b\.h5 lacks \(index -1 at position 1\)"):
            look(video, second, 8, 2)
    with pytest.raises(InputError, match="index 20 at position 0"):
        bank.long_term([20], [0.0], on_missing="skip")
    with pytest.raises(InputError, match="on_missing='ignore' is unknown: choose 'error' or 'skip'"):
        bank.long_term([0], [0.0], on_missing="ignore")


def test_moments_without_their_video_are_counted_and_warned_about_once(
    bank: FeatureBank, caplog: pytest.LogCaptureFixture
) -> None:
    for look in (bank.long_term, bank.long_term_pooled, bank.long_term_shared):
        look(bank.index(["v0_1", "nobody", "nowhere"]), [3.0, 3.0, 3.0], on_missing="skip")
        look(bank.index(["v0_1"]), [3.0], on_missing="skip")
    assert bank.skipped_moments == 6
    assert [record.getMessage() for record in caplog.records] == [
        f"2 of 3 moments get no context: {bank.path} lacks their video"
    ]


@pytest.mark.parametrize("second", [-31.0, -1e300, 1e18, 1e300])
def test_seconds_far_outside_a_video_have_no_rows(bank: FeatureBank, second: float) -> None:
    for look in (bank.long_term, bank.long_term_pooled, bank.long_term_shared):
        found, real = look([0, 5], [second, second])
        assert not real.any()
        assert not found.any()


def test_shared_rows_are_those_of_each_moment(bank: FeatureBank) -> None:
    video, second = torch.arange(-1, 20).repeat(6), torch.arange(126) % 25 / 2
    rows, mask = bank.long_term_shared(video, second, 8, 2, on_missing="skip")
    each, real = bank.long_term(video, second, 8, 2, on_missing="skip")
    assert len(rows) == mask.shape[1] < real.sum()
    assert mask.any(0).all()  # every row belongs to a moment
    for i in range(126):
        assert rows[mask[i]].equal(each[i][real[i]])
    with pytest.raises(InputError, match="pool='median' is unknown: choose 'mean' or 'max'"):
        bank.long_term_pooled([0], [0.0], pool="median")


def test_invalid_spans_and_indices_are_refused(bank: FeatureBank) -> None:
    with pytest.raises(InputError, match="span 1 of 2 ends before it starts"):
        bank.window([0, 1], [0.0, 5.0], [1.0, 4.0])
    with pytest.raises(InputError, match="not a number"):
        bank.window([0], [math.nan], [1.0])
    with pytest.raises(InputError, match="NaN or infinity"):
        bank.long_term([0], [math.nan])
    with pytest.raises(InputError, match="align='end'"):
        bank.window([0], [0.0], [1.0], "end")
    with pytest.raises(TypeError, match="integers"):
        bank.mean(torch.zeros(1), torch.ones(1))
    with pytest.raises(ValueError, match="first < last"):
        bank.mean([3], [3])


def test_empty_batches(bank: FeatureBank) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    first, last = bank.window(none, none.double(), none.double())
    assert bank.mean(first, last).shape == (0, 6)
    assert bank.rows(first, last, 4)[0].shape == (0, 4, 6)
    assert bank.long_term(none, none.double())[0].shape == (0, 300, 6)
    assert bank.window([], [], [])[0].shape == (0,)


def test_a_bank_of_texts_has_rows_but_no_windows(tmp_path: Path) -> None:
    rows = np.eye(5, 3, dtype=np.float32)
    with BankWriter(tmp_path / "texts.h5", 3, None, encoder="mini") as writer:
        writer.add("texts", rows)
    bank = FeatureBank.open(tmp_path / "texts.h5")
    assert bank.clock is None
    assert bank.videos == ["texts"]
    np.testing.assert_array_equal(bank.take(torch.tensor([2, 0])), rows[[2, 0]])
    np.testing.assert_allclose(bank.mean([0], [5]), rows.mean(0, keepdims=True), rtol=2**-11)
    assert bank.rows([0], [5], 2)[0].shape == (1, 2, 3)
    for look in (lambda: bank.window([0], [0.0], [1.0]), lambda: bank.long_term([0], [0.0])):
        with pytest.raises(InputError, match=r"texts\.h5 has no clock.*use take, mean or rows"):
            look()


def _means(bank: FeatureBank) -> torch.Tensor:
    video = bank.index(["v0_2", "v0_7"])
    return bank.mean(*bank.window(video, torch.zeros(2), torch.full((2,), 3.0)))


def _in_child(bank: FeatureBank, queue: "multiprocessing.SimpleQueue[list]") -> None:
    torch.set_num_threads(1)  # as a loader's worker does: the threads of OpenMP do not outlive a fork
    queue.put(_means(bank).tolist())


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_other_processes_read_the_same_rows(bank: FeatureBank, method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(bank, queue))
    child.start()
    answer = queue.get()
    child.join()
    assert answer == _means(bank).tolist()


def test_a_pickle_holds_a_path_and_opens_when_used(bank: FeatureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(bank)
    assert len(data) < 600
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert "_contents" not in vars(again)
    assert _means(again).equal(_means(bank))
    assert again.storage == bank.storage
    assert len(pickle.dumps(again)) == len(data)
    for path in bank.path.parent.glob("b.*"):
        path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        len(pickle.loads(data))


def test_no_hdf5_handle_stays_open(bank: FeatureBank) -> None:
    _means(bank)
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds) == 0


@pytest.mark.parametrize("device", ["disk", "lmdb"])
def test_gathering_from_disk_takes_no_private_memory(tmp_path: Path, device: str) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def private_kb() -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1])

    path = write(tmp_path / "big.h5", {f"{i}": np.ones((2000, 512), np.float16) for i in range(40)})  # 82 MB
    bank = opened(path, device)
    bank.mean([0], [8])
    before = private_kb()
    first = torch.arange(0, bank.n_rows, 8)
    for part in first.split(512):
        assert bank.mean(part, part + 8).sum() == 512 * len(part)
    assert private_kb() - before < 32_000


def test_windows_of_many_spans_are_those_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = FeatureBank.open(write(tmp_path / "b.h5", random_videos(9)))
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 9, (100,), generator=generator)
    start = torch.rand(100, generator=generator, dtype=torch.float64) * 20
    for align in ("centre", "start"):
        whole = bank.window(video, start, start + 3, align=align)
        with monkeypatch.context() as patch:
            patch.setattr(feature_bank, "_SPANS_AT_ONCE", 7)
            for cut, expected in zip(bank.window(video, start, start + 3, align=align), whole, strict=True):
                assert cut.equal(expected)
    assert bank.window([0, 1], 1.0, 2.0)[0].tolist() == [int(bank.window([v], [1.0], [2.0])[0]) for v in (0, 1)]
    assert [len(side) for side in bank.window([], [], [])] == [0, 0]
