"""The drill at full size, tiny: every stage runs on what the earlier ones wrote, and is not run twice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import full_size, full_size_stages
from clep.demo import SyntheticEgo4D
from clep.errors import InputError

TINY = ["fractions=[0.0004]", "dim=8", "text_dim=4", "batch_size=64", "warm_steps=1", "steps=3", "repeats=1"]
TINY += ["real_texts=20", "real_videos=1", "real_video_s=2", "real_width=96", "real_height=64"]


def test_the_exponent_of_growth_is_fitted() -> None:
    assert full_size.growth({0.01: 3.0}) is None
    assert full_size.growth({size: 7 * size**1.5 for size in (0.01, 0.1, 1.0)}) == pytest.approx(1.5)
    n = np.array([3.85e4, 3.85e6])
    assert full_size.growth(dict(zip(n, n * np.log(n), strict=True))) == pytest.approx(full_size.NLOGN)


def test_memory_of_a_process_and_its_children_is_summed() -> None:
    inner = "a = bytearray(60_000_000); print(1, flush=True); input()"
    code = "import subprocess, sys; b = bytearray(40_000_000); print(1, flush=True); "
    code += f"subprocess.run([sys.executable, '-c', {inner!r}])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.readline()
        assert 100 < full_size.anonymous_mb(child.pid) < 150
        assert full_size.disk_mb(child.pid) >= 0
    finally:
        child.communicate(b"\n")
    assert full_size.anonymous_mb(child.pid) == 0


def test_stages_run_on_what_earlier_ones_wrote(tmp_path: Path) -> None:
    settings = full_size.read_settings(full_size.Settings, [*TINY, f"data={tmp_path}", "fraction=0.0004"])
    folder = full_size.folder_of(settings, settings.fraction)
    found = {
        name: full_size_stages.STAGE_OF[name](settings, folder) for name in ("make", "features", "narrations", "texts")
    }
    found["opening"] = full_size_stages.STAGE_OF["opening"](settings, folder)
    counts = SyntheticEgo4D(fraction=0.0004, dim=8).counts
    assert found["narrations"]["counts"]["narrations"] == counts["narrations"]
    assert found["texts"]["texts"] == found["narrations"]["counts"]["distinct_texts"]
    assert found["features"]["videos"] == -(-counts["videos"] // 10)
    assert 0 < found["opening"]["moments"] <= counts["narrations"]  # without those of held-out videos
    assert found["opening"]["bytes_a_step"] == 64 * (2 * found["opening"]["rows_a_moment"] * 8 + 4 * 4)
    full_size.main([*TINY, f"data={tmp_path}", "delete=true"])
    assert not folder.exists()


def test_something_else_is_not_deleted(tmp_path: Path) -> None:
    settings = full_size.read_settings(full_size.Settings, [*TINY, f"data={tmp_path}"])
    folder = full_size.folder_of(settings, 0.0004)
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"dataset\.json"):
        full_size.main([*TINY, f"data={tmp_path}", "delete=true"])
    assert (folder / "mine.txt").exists()


def test_a_stage_is_not_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    figures = {"work_s": 1.0, "peak_anonymous_mb": 10.0, "disk_gb": 0.1}
    monkeypatch.setattr(full_size, "_measured", lambda settings, stage, fraction: ran.append(stage) or figures)
    words = [*TINY, f"results={tmp_path}", f"data={tmp_path}"]
    full_size.main([*words, "stages=[make,narrations]"])
    full_size.main([*words, "stages=[make,narrations,opening]"])
    assert ran == ["make", "narrations", "opening"]
    assert set(json.loads((tmp_path / "full_size.json").read_text())["stages"]["0.0004"]) == set(ran)
    full_size.main([*words, "stages=[make]", "dim=16"])  # other settings
    assert ran[3:] == ["make"]
    with pytest.raises(SystemExit, match="no stage all"):
        full_size.main([*words, "stages=[all]"])


@pytest.mark.slow
def test_the_whole_drill(tmp_path: Path) -> None:
    result = full_size.main([*TINY, "ranks=[1,2]", "rank_steps=2", f"results={tmp_path}", f"data={tmp_path}"])
    stages = result["stages"]["0.0004"]
    assert set(stages) == set(full_size.STAGES)
    assert stages["hard_negatives"]["videos"] >= 2
    assert stages["epoch"]["metrics"]["seconds/fit"] > 0
    assert 0 < stages["ranks"]["ranks"]["2"]["largest_difference"] < 1e-5
    assert stages["real"]["texts"]["count"] == 20
    assert stages["real"]["videos"]["rows"] > 0
    assert all(one["peak_anonymous_mb"] > 0 for one in stages.values())
