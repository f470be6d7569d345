"""Every benchmark runs at toy size, finds equal results on both sides, and leaves its figures on disk."""

import json
from pathlib import Path

import av
import pytest
import torch

from benchmarks import (
    chunked_encoding,
    demo,
    extraction,
    loader,
    long_term,
    objectives,
    opening,
    published_sizes,
    run_report,
    samplers,
    search_index,
    short_clips,
    training,
    zero_shot,
)
from benchmarks.films import drawn, repeat_film, write_film
from benchmarks.long_term_data import PublishedSampling
from benchmarks.report import read_settings
from benchmarks.timing import paired_ratio, take_turns
from benchmarks.tutorial_data import Size, tutorial_data
from clep.errors import InputError

TOY = ["size.videos=3", "size.narrations=300", "size.distinct_texts=90", "size.dim=16", "size.text_dim=8"]
SHORT = [*TOY, "size.shortest_min=1", "size.longest_min=2"]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [f"results={tmp_path / 'results'}"]


def _written(tmp_path: Path, name: str) -> dict:
    written = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert written["machine"]["torch"]
    assert written["settings"]
    assert written["targets"]
    return written


@pytest.mark.slow
def test_loader(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=2", "batch_size=32", "batches=4", "warm_batches=1", "larger_batch=64"]
    result = loader.main([*words, f"data={tmp_path / 'data'}", *SHORT, *few])
    assert result["same_batches"]["disk, float32"] == {"video": 0.0, "text": 0.0}
    assert result["same_batches"]["cpu, float16"]["video"] < 2e-3
    assert len(result["examples_per_second"]["baseline"]) == 2
    assert _written(tmp_path, "loader")["ratio_to_baseline"].keys() == result["ratio_to_baseline"].keys()


@pytest.mark.slow
def test_training(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "steps=2", "large_steps=2", "warm_steps=1", "batch_size=16", "large_batch=32", "width=16"]
    result = training.main([*words, f"data={tmp_path / 'data'}", *SHORT, *few])
    assert set(result["cpu"]["median"]) == set(result["cpu"]["examples_per_second"])
    assert "skipped" in result["gpu"] or "median" in result["gpu"]
    _written(tmp_path, "training")


@pytest.mark.slow
def test_opening(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "videos=30", "narrations=200", "distinct_texts=50", "dim=16", "text_dim=8"]
    result = opening.main([*words, *few, "bank_gb=[0.001]", "moments=256", "batch_size=64"])
    assert result["opening"]["median"]["baseline"] > 0
    if "skipped" not in result["memory_mb"]:
        assert result["memory_mb"]["0.001 GB"]["largest"]["Anonymous"] > 0
    _written(tmp_path, "opening")


@pytest.mark.slow
def test_zero_shot(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "dim=32", "text_dim=16", "spread=3", "training_steps=5", "sample=20"]
    sizes = ["kinetics.clips=120", "kinetics.classes=12", "ego_charades.clips=80", "ego_charades.classes=10"]
    result = zero_shot.main([*words, *few, *sizes])
    for task in ("kinetics", "ego_charades"):
        assert result[task]["largest_difference"]["float32 bank"] < 1e-6
        assert result[task]["baseline_metrics"].keys() == result[task]["ours_metrics"]["float16 bank"].keys()
    assert result["kinetics"]["baseline_metrics"]["zeroshot/kinetics/top1"] > 100 / 12
    _written(tmp_path, "zero_shot")


@pytest.mark.slow
def test_long_term(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "operator_repeats=1", "batches=2", "batch_size=6", "latent_dim=8", "search_minutes=1"]
    sizes = ["size.videos=3", "size.seconds=100", "size.dim=16", "memory_gb=[0.005]", "workers=2"]
    result = long_term.main([*words, *few, *sizes])
    for dtype in ("float32", "float16"):
        gather = result[f"gather, {dtype}"]
        assert 6 * 30 < gather["rows_of_a_batch"] < 6 * 60 * 2
        assert gather["index_select_over_each"]["index_select of the rows"]["ratio"] == 1.0
        assert {"ours, cpu", "ours, disk", "ours, lmdb", "published loop"} < set(gather["median"])
    assert result["search"]["FBONonLocal"]["median"]["each row once"] > 0
    if "memory" not in result:
        together = result["memory_mb_of_2_processes"]["disk"]
        assert together["bank_rss"] > 1.5 * together["bank_pss"]
    _written(tmp_path, "long_term")


def test_the_published_sampling_takes_what_ours_does_or_draws_among_it() -> None:
    second = {10: torch.arange(6.0)[:, None], 12: torch.full((1, 1), 9.0)}
    loop = PublishedSampling({"v": second}, dim=1, window_s=4, per_second=2)
    assert loop.example("v", 12, draw=False)[:, 0].tolist() == [0, 1, 0, 0, 9, 0, 0, 0]
    drawn = torch.stack([loop.example("v", 12)[:2, 0] for _ in range(50)])
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert drawn.unique().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_samplers(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "steps=1", "warm_steps=1", "batch_size=32", "narrations=2000", "videos=80", "distinct_texts=99"]
    small = [f"data={tmp_path / 'data'}", *SHORT, "width=16", "search_videos=70", "search_moments=2"]
    result = samplers.main([*words, *few, *small])
    assert set(result["percent_of_the_step"]) == {"shuffled", "unique_texts", "scene_aware", "hard_negatives"}
    assert "skipped" in result["search"] or result["search"]["seconds"] > 0
    _written(tmp_path, "samplers")


@pytest.mark.slow
def test_extraction(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "clips").mkdir()
    clip = write_film(tmp_path / "clips" / "a.mp4", drawn(45, 160, 96), 160, 96)
    films = ["film_s=4", "encoder_film_s=2", "timesformer_film_s=0", "width=160", "height=96", "short_side_px=64"]
    ways = ["decode_threads=[1]", "ways=[0x1x1 spin,1x1x2 passive]"]
    few = ["repeats=1", "memory_film_s=2", "memory_times=[1,2]", "job_videos=1", "kills=1"]
    result = extraction.main([*words, f"videos={clip.parent}", *films, *ways, *few])
    assert {"ours, 8 of 32", "seeks, 8 of 32", "bare, rgb24"} < set(result["decoding"]["1 threads"]["median"])
    encoding = result["encoding, efficientnet-lite0"]
    assert encoding["units"] == 10  # of 60 frames: 4, 12, …, 44, and 32, 40, 48, 56 of the last row
    assert 0 < encoding["against_bounds"]["1x1x2 passive"]["work_over_pipeline"] < 2
    assert result["film"]["of"] == "1 real clips, joined"
    assert str(tmp_path) not in json.dumps(result["settings"]["videos"])
    assert all(same for way, same in result["shards"]["same_bytes_as_1_shard"].items() if "PyTorch" not in way)
    assert result["killed"]["same_bytes"]
    assert result["memory_mb"]["ours"]["4 s"]["peak_mb"] > 0
    _written(tmp_path, "extraction")


@pytest.mark.slow
def test_short_clips(tmp_path: Path, words: list[str]) -> None:
    result = short_clips.main([*words, "clips=5", "distinct=2", "width=160", "height=96"])
    assert result["frames_encoded"] == 5 * 4
    assert result["cpu_seconds"]["job"] > 0
    _written(tmp_path, "short_clips")


def test_a_film_is_repeated_by_its_packets(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", drawn(40, 160, 96), 160, 96, group=12)
    longer = repeat_film(film, 3, tmp_path / "longer.mp4")
    with av.open(str(longer)) as file:
        times = [frame.time for frame in file.decode(video=0)]
    assert times == pytest.approx([number / 30 for number in range(120)], abs=1e-3)


@pytest.mark.slow
def test_demo(tmp_path: Path, words: list[str]) -> None:
    settings = ["training_videos=4", "other_videos=0", "kinetics_clips=1", "charades_scripts=4"]
    settings.append("encoder={_target_: clep.demo.EncoderSettings, dim: 32}")
    small = [f"+synthetic.dataset.{word}" for word in settings]
    once = [*small, "evaluator.probe.clips_per_class=1", "data.batch_size=32"]
    every = ["trainer.max_epochs=1", "model.video.hidden_dim=16", "model.text.hidden_dim=16"]
    lists = [f"demo_overrides={json.dumps(once)}", f"overrides={json.dumps(every)}"]
    result = demo.main([*words, f"data={tmp_path / 'data'}", "seeds=[3]", *lists])
    assert set(result["share_of_probe"]) == {"demo", "ego4d_tutorial", "shuffled pairs"}
    assert not (tmp_path / "data" / "demo" / "seed-3").exists()
    _written(tmp_path, "demo")


def test_data_is_made_once_and_never_over_something_else(tmp_path: Path) -> None:
    size = Size(videos=2, narrations=30, distinct_texts=9, dim=4, text_dim=3, shortest_min=0.5, longest_min=1.0)
    made = tutorial_data(tmp_path, size)
    before = made.per_video.stat().st_mtime_ns
    assert len(made.narration_files) == 30
    assert all(path.exists() for path in made.narration_files)
    assert tutorial_data(tmp_path, size).per_video.stat().st_mtime_ns == before
    size.narrations = 40
    assert tutorial_data(tmp_path, size).per_video.stat().st_mtime_ns != before
    (made.folder / "made.json").unlink()
    (made.folder / "mine.txt").write_text("not to be removed")
    with pytest.raises(InputError, match="holds other files"):
        tutorial_data(tmp_path, size)


def test_sides_take_turns_and_warm_rounds_are_forgotten() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    raw = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, repeats=2, warm=1)
    assert order == ["a", "b"] * 3
    assert raw == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert paired_ratio(raw, "b", "a") == {"ratio": 5 / 4, "lowest": 6 / 5, "highest": 4 / 3}


def test_a_wrong_setting_is_one_sentence() -> None:
    with pytest.raises(SystemExit, match="repeats"):
        read_settings(loader.Settings, ["repeats=many"])
    with pytest.raises(SystemExit, match="nothing"):
        read_settings(loader.Settings, ["nothing=1"])


@pytest.mark.slow
def test_chunked_encoding(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "batch_size=64", "chunk_size=16", "rows=3", "dim=16", "width=64", "depth=1"]
    result = chunked_encoding.main([*words, *few])
    assert result["loss"]["chunks"] == pytest.approx(result["loss"]["whole batch"], rel=0.1)  # other dropout
    assert result["step_seconds"]["chunks / whole batch"]["ratio"] > 0
    assert result["peak_mb"]["median"]["chunks"] > 0
    _written(tmp_path, "chunked_encoding")


@pytest.mark.slow
def test_objectives(tmp_path: Path, words: list[str]) -> None:
    few = ["repeats=1", "batch_size=40", "dim=8", "large_batch=1024", "chunk=128"]
    result = objectives.main([*words, *few])
    assert set(result["seconds_of_a_pass"]["median"]) == set(objectives.objectives())
    chunked = result["large_batch"]["chunked"]
    for way, figures in result["large_batch"].items():
        assert figures["loss"] == pytest.approx(chunked["loss"], rel=1e-5), way
        assert figures["gradient"] == pytest.approx(chunked["gradient"], rel=1e-4), way
        assert figures["peak_mb"] >= figures["before_mb"] > 0
    _written(tmp_path, "objectives")


@pytest.mark.slow
def test_published_sizes(tmp_path: Path, words: list[str]) -> None:
    result = published_sizes.main([*words, "models=[tiny,egovideo]"])
    assert result["tiny"]["clip_mb"] > 0
    assert result["egovideo"] == {"visual_m": 1019.3, "textual_m": 271.1}
    _written(tmp_path, "published_sizes")


@pytest.mark.slow
def test_run_report(tmp_path: Path, words: list[str]) -> None:
    run_report.main([*words, "pairs=3000", "dim=8"])
    written = _written(tmp_path, "run_report")
    assert written["targets"]["size of the page, MB"]["reached"]
    assert written["report"]["details_s"] > 0


@pytest.mark.slow
def test_search_index(tmp_path: Path, words: list[str]) -> None:
    pytest.importorskip("faiss")
    small = ["moments=3000", "dim=32", "concepts=60", "queries=50", "repeats=1", f"data={tmp_path}"]
    result = search_index.main([*words, *small])
    assert result["recall_at_10"]["texts"] > 0.9
    assert result["build"]["moments"] <= 3000
    assert set(result["file_gb"]) == {".moments", ".ivf"}
    assert _written(tmp_path, "search_index")["targets"].keys() == result["targets"].keys()
    assert not list(tmp_path.glob("**/*.moments"))
