"""The command for a GPU: parts end by their limits, failures are recorded, and a rehearsal needs no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_lookups
from benchmarks.device import bound_s, flops_of, peaks
from benchmarks.ego4d_data import StandInEncoder
from benchmarks.gpu_extraction import make_encoder
from clep.video import VideoEncoder


def test_a_part_that_fails_or_hangs_is_recorded_with_what_it_measured(tmp_path: Path) -> None:
    fails = "import json, sys; json.dump({'half': 1}, open('gpu_lookups.json', 'w')); sys.exit('no memory left')"
    write = f"import os; os.chdir({str(tmp_path)!r}); "
    found = gpu.run_part("lookups", [sys.executable, "-c", write + fails], tmp_path, 60)
    assert (found["status"], found["reason"], found["result"]) == ("failed", "no memory left", {"half": 1})
    hangs = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '60'])"
    found = gpu.run_part("training", [sys.executable, "-c", hangs], tmp_path, 0.5)
    assert (found["status"], found["reason"]) == ("out of time", "it ran longer than 0.5 s")
    assert found["seconds"] < 20
    found = gpu.run_part("extraction", [sys.executable, "-c", "pass"], tmp_path, 60)
    assert found["status"] == "failed"
    assert "gpu_extraction.json" in found["reason"]


def test_other_parts_run_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {
        "lookups": "raise SystemExit(3)",
        "training": f"open({str(tmp_path / 'gpu_training.json')!r}, 'w').write('[1]')",
    }
    monkeypatch.setattr(gpu, "command", lambda name, *_: [sys.executable, "-c", content[name]])
    assert gpu.main([f"out={tmp_path}", "device=cpu", "parts=[lookups,training]"]) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["status"] for name, part in written["parts"].items()} == {
        "lookups": "failed",
        "training": "done",
    }
    assert written["machine"]["torch"] == torch.__version__
    assert written["date"]


def test_the_limits_leave_time_below_8_minutes() -> None:
    assert sum(gpu.LIMITS_S.values()) < 8 * 60 - 20


def test_test_counts_name_the_failures(tmp_path: Path) -> None:
    cases = '<testcase classname="a" name="b"/><testcase classname="a" name="c"><failure/></testcase>'
    skipped = '<testcase classname="a" name="d"><skipped/></testcase>'
    (tmp_path / "t.xml").write_text(f"<testsuites><testsuite>{cases}{skipped}</testsuite></testsuites>")
    assert gpu._test_counts(tmp_path / "t.xml") == {"passed": 1, "failed": ["a::c"], "skipped": 1}


def test_every_file_with_tests_of_the_gpu_is_run(tmp_path: Path) -> None:
    words = gpu.command("tests", "cuda", tmp_path, "")
    assert {"tests/bank/test_storage.py", "tests/data/test_datamodule.py", "tests/video/test_encode.py"} <= set(words)


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no GPU.*CLEP_BENCHMARK_DEVICE=cpu"):
        gpu.main([f"out={tmp_path}", "device=cuda"])
    with pytest.raises(SystemExit, match="no part everything"):
        gpu.main([f"out={tmp_path}", "parts=[everything]"])
    with pytest.raises(SystemExit, match="out=FOLDER"):
        gpu.main([])


def test_bounds_are_operations_and_bytes_at_the_peak() -> None:
    peak = {
        "published_bf16_flop_per_s": 1e12,
        "published_bytes_per_s": 1e9,
        "bf16_flop_per_s": 1,
        "copied_bytes_per_s": 1,
    }
    assert bound_s(2e12, 3e9, peak) == pytest.approx(5.0)
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert flops_of(lambda: a @ b) == 2 * 3 * 5 * 7
    assert peaks("cpu")["copied_bytes_per_s"] > 1e6


def test_lookups_at_toy_size(tmp_path: Path) -> None:
    words = [*gpu._TOY["lookups"].split(), "device=cpu", f"results={tmp_path}", f"data={tmp_path / 'data'}"]
    result = gpu_lookups.main(words)
    assert set(result["lookups"]) == {"means of windows", "padded rows of windows", "single rows", "long-term context"}
    assert all(one["bytes_per_s"] > 0 for one in result["lookups"].values())
    assert result["operators"]["FBONonLocal"]["flops"] > result["operators"]["FBOAvg"]["flops"] >= 0
    assert json.loads((tmp_path / "gpu_lookups.json").read_text())["operators"].keys() == result["operators"].keys()


@pytest.mark.parametrize("name", ["timesformer-b", "lavila-b", "pe-b"])
def test_toy_encoders_are_of_the_kind_that_is_measured(name: str, tmp_path: Path) -> None:
    encoder = make_encoder(name, True, tmp_path)
    assert isinstance(encoder, VideoEncoder)
    assert encoder.frame_wise == (name == "pe-b")
    clips = torch.randn(
        2, 1 if encoder.frame_wise else encoder.clip.frames, 3, encoder.clip.crop_px, encoder.clip.crop_px
    )
    with torch.no_grad():
        assert encoder(clips).shape == (2, encoder.dim)


def test_the_stand_in_gives_equal_vectors_to_equal_texts_alone() -> None:
    encoder = StandInEncoder(64)
    rows = encoder.encode(["#C C picks the cup", "#C C drops the cup", "#C C picks the cup"])
    assert np.array_equal(rows[0], rows[2])
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
    assert abs(rows[0] @ rows[1]) < 0.5
    parts = list(encoder.stream(["a", "b", "c"], 2))
    assert [first for first, _ in parts] == [0, 2]
    assert np.array_equal(np.concatenate([part for _, part in parts]), encoder.encode(["a", "b", "c"]))


@pytest.mark.slow
def test_the_whole_command_on_a_cpu(tmp_path: Path) -> None:
    environment = os.environ | {"CLEP_BENCHMARK_DEVICE": "cpu", "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(gpu.ROOT / "benchmarks" / "gpu.sh"), str(tmp_path)], env=environment, cwd=tmp_path
    )
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["status"] for name, part in written["parts"].items()} == dict.fromkeys(gpu.LIMITS_S, "done")
    assert done.returncode == 0
    training = written["parts"]["training"]["result"]["examples_per_second"]
    assert training["batch 16"]["median"]["compiled"] > 0
    assert written["parts"]["tests"]["result"]["failed"] == []
