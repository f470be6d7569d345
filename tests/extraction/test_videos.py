import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import Clock, FeatureBank
from clep.errors import InputError
from clep.extraction import extract, ledger_path, read_ledger
from clep.extraction.engine import shards_folder
from clep.files import read_json
from clep.preprocess.__main__ import main
from clep.preprocess.videos import Videos
from tests.extraction.conftest import FAKE, run

ALL = ["a", "b", "e", "more/c", "more/d"]


def statuses(output: Path) -> dict[str, str]:
    return {entry.id: entry.status for entry in read_ledger(ledger_path(output))}


def test_a_folder_becomes_a_bank_with_a_ledger_and_nothing_else(films, tmp_path, encoder):
    out = tmp_path / "out" / "features.h5"
    coverage = run(films, out)
    bank = FeatureBank.open(out)
    assert bank.videos == ALL
    assert bank.first_row.diff().tolist() == [3, 1, 1, 5, 2]  # 60, 30, 31, 90 and 45 frames of 1/30 s
    assert bank.clock == Clock(30 / 16, 32 / 30)
    assert bank.encoder == "brightness"
    np.testing.assert_allclose(bank.duration_s, [2.0, 1.0, 31 / 30, 3.0, 45 * 1001 / 30000], atol=2e-3)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        ".features.shards.lock", "features.coverage.json", "features.h5", "features.ledger.jsonl",
    ]  # fmt: skip
    entries = read_ledger(ledger_path(out))
    assert [(entry.id, entry.status, entry.rows) for entry in entries] == [
        ("a", "done", 3), ("b", "done", 1), ("e", "done", 1), ("more/c", "done", 5), ("more/d", "done", 2),
    ]  # fmt: skip
    assert all(entry.seconds > 0 and entry.fingerprint and entry.settings for entry in entries)
    assert (coverage["counts"]["done"], coverage["counts"]["rows"]) == (5, 12)


def test_rows_do_not_depend_on_the_shards(films, tmp_path, encoder):
    for name, options in {"one": {"n_shards": 1}, "four": {"n_shards": 4}, "again": {"n_shards": 5}}.items():
        run(films, tmp_path / f"{name}.h5", clip_batch=2, **options)
    one = (tmp_path / "one.h5").read_bytes()
    assert (tmp_path / "four.h5").read_bytes() == one
    assert (tmp_path / "again.h5").read_bytes() == one


def test_parts_on_machines_that_share_a_folder_end_in_the_same_bank(films, tmp_path, encoder):
    run(films, tmp_path / "whole.h5")
    out = tmp_path / "parts.h5"
    first = run(films, out, shard="1/3")
    assert first["waiting_for"] == 5 - first["videos"]
    assert not out.exists()
    run(films, out, shard="0/3")
    last = run(films, out, shard="2/3")
    assert last["counts"]["done"] == 5
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_only_what_is_missing_is_encoded_again(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    run(films, out)
    assert encoder.clips > 0
    encoder.clips = 0
    assert run(films, out)["up_to_date"]
    assert encoder.clips == 0

    shutil.copy(films / "a.mp4", films / "new.mp4")
    shutil.copy(films / "more" / "c.mp4", films / "b.mp4")  # another film under a known name
    run(films, out)
    assert encoder.clips == 3 + 5
    bank = FeatureBank.open(out)
    assert bank.videos == ["a", "b", "e", "more/c", "more/d", "new"]
    np.testing.assert_array_equal(bank.video_rows("b"), bank.video_rows("more/c"))
    np.testing.assert_array_equal(bank.video_rows("new"), bank.video_rows("a"))


def test_other_settings_make_another_bank(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    run(films, out)
    run(films, out, sampling="segments", segments=2)
    bank = FeatureBank.open(out)
    assert bank.clock == Clock.irregular(0.0)
    assert bank.first_row.diff().tolist() == [2] * 5
    np.testing.assert_allclose(bank.video_seconds("a"), [0.5, 1.5], atol=1e-6)
    encoder.clips = 0
    run(films, out, sampling="segments", segments=2, overwrite=True)
    assert encoder.clips > 0


def test_bad_files_are_listed_with_the_reason_and_the_rest_completes(films, tmp_path, encoder):
    whole = (films / "a.mp4").read_bytes()
    (films / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (films / "empty.mkv").write_bytes(b"")
    (films / "text.avi").write_text("this is no film")
    (films / "b.avi").write_bytes(whole)
    out = tmp_path / "features.h5"
    coverage = run(films, out)
    assert FeatureBank.open(out).videos == ALL
    failed = coverage["lists"]["failed"]
    assert set(failed) == {"cut", "empty", "text"}
    assert "0 bytes" in failed["empty"]
    assert f"{films / 'b.mp4'} ignored" in coverage["lists"]["duplicate_ids"]["b"]  # b.avi comes first
    assert {name for name, status in statuses(out).items() if status == "failed"} == {"cut", "empty", "text"}

    encoder.clips = 0
    assert run(films, out)["up_to_date"]  # a file that could not be read before is not tried again …
    (films / "cut.mp4").write_bytes(whole)  # … until it changes
    assert "cut" not in run(films, out)["lists"]["failed"]
    assert encoder.clips == 3


def test_the_first_bad_file_ends_the_job_with_on_error_stop(films, tmp_path, encoder):
    (films / "empty.mkv").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty.*on_error=skip"):
        run(films, tmp_path / "features.h5", on_error="stop")
    assert not (tmp_path / "features.h5").exists()


def test_nothing_encoded_is_an_error_that_leaves_the_ledger(tmp_path, encoder):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "x.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 1 videos.*0 bytes.*ledger"):
        run(tmp_path / "films", tmp_path / "features.h5")
    assert statuses(tmp_path / "features.h5") == {"x": "failed"}
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no video"):
        run(tmp_path / "nothing", tmp_path / "features.h5")


def test_an_error_of_the_process_is_retried_by_the_next_run(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    encoder.error, encoder.error_after = ZeroDivisionError("surprise"), 6
    coverage = run(films, out, n_shards=5)
    failed = coverage["lists"]["failed"]
    assert failed
    assert all("surprise" in reason for reason in failed.values())
    encoder.error = None
    assert run(films, out)["counts"]["done"] == 5
    assert FeatureBank.open(out).videos == ALL
    assert not shards_folder(out).exists()


def test_out_of_memory_ends_the_shard_and_names_its_videos(films, tmp_path, encoder):
    encoder.error, encoder.error_after = MemoryError("no more"), 6
    coverage = run(
        films, tmp_path / "features.h5", n_shards=5, compute={"_target_": "clep.compute.Local", "retries": 0}
    )
    failed = coverage["lists"]["failed"]
    assert 0 < len(failed) < 5
    assert all("no more" in reason or "MemoryError" in reason for reason in failed.values())


def test_selection(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    coverage = run(films, out, ids=["b", "more/d"])
    assert FeatureBank.open(out).videos == ["b", "more/d"]
    assert coverage["lists"]["not_selected"] == ["a", "e", "more/c"]
    (tmp_path / "ids.txt").write_text("e\n\nb\n")
    run(films, out, ids=str(tmp_path / "ids.txt"))
    assert FeatureBank.open(out).videos == ["b", "e", "more/d"]  # what was there stays
    run(films, tmp_path / "limited.h5", limit=2)
    assert FeatureBank.open(tmp_path / "limited.h5").videos == ["a", "b"]
    for options, message in (({"ids": ["zzz"]}, "zzz"), ({"limit": 0}, "limit=0"), ({"shard": "3/3"}, "shard='3/3'")):
        with pytest.raises(InputError, match=message):
            run(films, out, **options)


def test_npy_files_stay_inside_their_folder_whatever_the_ids(films, tmp_path, encoder):
    listed = tmp_path / "list.tsv"
    ids = ["../../up", "/root", "a/b", "été 日本", "..", "x" * 300]
    listed.write_text("".join(f"{name}\t{films / 'a.mp4'}\n" for name in ids), encoding="utf-8")
    out = tmp_path / "out" / "features.h5"
    before = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents}
    Videos(videos=listed, output=out, extraction={"encoder": FAKE, "format": "npy"}).run()
    after = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents}
    assert after - before == {tmp_path / "out"}
    bank = FeatureBank.open(out)
    assert bank.videos == sorted(ids)
    files = list((tmp_path / "out" / "features_npy").iterdir())
    assert len(files) == len(ids)
    for path in files:
        rows = np.load(path)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, bank.video_rows("a/b"))


def test_no_encoder_is_an_error_that_names_one(films, tmp_path):
    with pytest.raises(InputError, match="efficientnet_lite0"):
        Videos(videos=films, output=tmp_path / "x.h5", extraction={}).run()
    with pytest.raises(InputError, match=r"clip_batchh.*clip_batch"):
        run(films, tmp_path / "x.h5", clip_batchh=3)


def test_images_are_videos_of_one_row(films, tmp_path, encoder):
    from PIL import Image

    Image.new("RGB", (64, 48), (255, 0, 0)).save(films / "red.png")
    Image.new("L", (64, 48), 255).save(films / "white.jpg")
    (films / "broken.jpg").write_bytes((films / "white.jpg").read_bytes()[:200])
    out = tmp_path / "features.h5"
    coverage = run(films, out, clip_batch=2)
    bank = FeatureBank.open(out)
    assert list(coverage["lists"]["failed"]) == ["broken"]
    np.testing.assert_allclose(bank.video_rows("red"), [[1, 0, 0, 1 / 3]], atol=2e-3)
    np.testing.assert_allclose(bank.video_rows("white"), [[1, 1, 1, 1]], atol=2e-3)


@pytest.mark.slow  # test_engine kills the engine at many moments, with an encoder that costs nothing
def test_a_killed_run_is_continued_to_the_same_bank(films, tmp_path):
    """The real encoder, real worker processes, and a kill that no handler sees."""
    words = ["videos", f"videos={films}", "encoder=efficientnet_lite0", "encoder.crop_px=64", "n_shards=4"]
    words += ["compute.threads=1"]
    whole, out = tmp_path / "whole.h5", tmp_path / "killed.h5"
    assert main([*words, f"output={whole}"]) == 0
    command = [sys.executable, "-m", "clep.preprocess", *words, "compute.processes=2", f"output={out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(shards_folder(out).glob("*.journal")):
        time.sleep(0.02)
    time.sleep(np.random.default_rng(0).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists() or out.read_bytes() == whole.read_bytes()
    assert main([*words, f"output={out}"]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert read_json(out.with_suffix(".coverage.json"))["counts"]["done"] == 5


def test_extract_refuses_nothing_to_do(tmp_path):
    with pytest.raises(InputError, match=r"no video to encode.*'x'.*no file"):
        extract("job", [], tmp_path / "f.h5", {"encoder": FAKE}, source="", skipped={"x": "no file"})


def test_npy_files_can_be_written_later_and_follow_the_bank(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    run(films, out)
    run(films, out, format="npy")
    files = {path.name for path in (tmp_path / "features_npy").iterdir()}
    assert files == {"a.npy", "b.npy", "e.npy", "more%2Fc.npy", "more%2Fd.npy"}
    shutil.copy(films / "more" / "c.mp4", films / "b.mp4")
    run(films, out, format="npy")
    assert np.load(tmp_path / "features_npy" / "b.npy").shape == (5, 4)


def test_a_job_compiles_its_encoder_and_records_that(films, tmp_path, encoder, monkeypatch):
    out = tmp_path / "f.h5"
    run(films, out)
    plain = FeatureBank.open(out, "cpu").video_rows("more/c")
    settings = {entry.settings for entry in read_ledger(ledger_path(out))}
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda pixels: 2 * function(pixels))
    run(films, out, compile=True)
    np.testing.assert_allclose(FeatureBank.open(out, "cpu").video_rows("more/c"), 2 * plain, rtol=1e-3)
    assert settings.isdisjoint(entry.settings for entry in read_ledger(ledger_path(out)))
    assert run(films, out, compile=True)["up_to_date"]


def test_a_job_refuses_options_that_its_encoder_cannot_use(films, tmp_path, encoder):
    for option in ("channels_last", "transform_on_device"):
        with pytest.raises(InputError, match=f"{option}=true.*brightness"):
            run(films, tmp_path / "f.h5", **{option: True})


def test_bf16_is_refused_on_a_gpu_that_only_emulates_it(films, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(InputError, match="precision=bf16: the GPU has no bfloat16 arithmetic"):
        run(films, tmp_path / "f.h5", device="cuda", precision="bf16", compute={"_target_": "clep.compute.Local"})


def test_a_failed_run_with_other_settings_keeps_the_bank(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    run(films, out)
    before, ledger = out.read_bytes(), ledger_path(out).read_bytes()
    encoder.error = ZeroDivisionError("no")
    with pytest.raises(InputError, match="none of"):
        run(films, out, stride=8)
    with pytest.raises(InputError, match="rate=0"):
        run(films, out, rate=0)
    assert (out.read_bytes(), ledger_path(out).read_bytes()) == (before, ledger)
    encoder.error, encoder.clips = None, 0
    shutil.copy(films / "a.mp4", films / "new.mp4")
    run(films, out)
    assert FeatureBank.open(out).videos == [*ALL, "new"]
    assert encoder.clips == 3
    run(films, out, stride=8)
    assert FeatureBank.open(out).clock == Clock(30 / 8, 32 / 30)


def test_a_failed_video_can_be_done_later(films, tmp_path, encoder):
    for number in range(8):
        shutil.copy(films / "a.mp4", films / f"copy{number}.mp4")
    out = tmp_path / "features.h5"
    encoder.error, encoder.error_after = ZeroDivisionError("once"), 11
    assert run(films, out, n_shards=3)["lists"]["failed"]
    encoder.error = None
    assert not run(films, out, n_shards=2)["lists"]["failed"]
    encoder.clips = 0
    assert run(films, out)["up_to_date"]
    assert encoder.clips == 0
    assert len(FeatureBank.open(out)) == 13


def test_videos_without_files_or_not_selected_are_kept(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    run(films, out)
    (films / "a.mp4").unlink()
    (films / "more" / "c.mp4").unlink()
    shutil.copy(films / "e.mp4", films / "b.mp4")
    shutil.copy(films / "e.mp4", films / "new.mp4")
    coverage = run(films, out, ids=["new"])
    assert FeatureBank.open(out).videos == [*ALL, "new"]
    assert coverage["lists"]["kept_without_a_file"] == ["a", "more/c"]
    assert coverage["counts"]["done"] == 6
    run(films, out, overwrite=True)
    assert FeatureBank.open(out).videos == ["b", "e", "more/d", "new"]


def test_a_replaced_file_of_equal_size_is_encoded_again(films, tmp_path, encoder):
    from PIL import Image

    out, folder = tmp_path / "features.h5", tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (64, 48), (255, 0, 0)).save(folder / "x.bmp")
    run(folder, out)
    Image.new("RGB", (64, 48), (0, 255, 0)).save(folder / "x.bmp")
    run(folder, out)
    assert FeatureBank.open(out).video_rows("x")[0, :2].tolist() == [0.0, 1.0]


def test_more_shards_than_a_process_may_open_files_are_joined(films, tmp_path, encoder):
    import resource

    (tmp_path / "many").mkdir()
    for number in range(60):
        shutil.copy(films / "e.mp4", tmp_path / "many" / f"{number:02}.mp4")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 45, hard))
    try:
        run(tmp_path / "many", tmp_path / "features.h5", n_shards=60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(FeatureBank.open(tmp_path / "features.h5")) == 60


def test_invalid_outputs_and_overwriting_of_parts_are_refused_at_once(films, tmp_path, encoder):
    (tmp_path / "folder.h5").mkdir()
    for output in (tmp_path / "folder.h5", tmp_path / "feat.l14"):
        with pytest.raises(InputError, match=r"ends in \.h5"):
            run(films, output)
    with pytest.raises(InputError, match="overwrite=true with shard"):
        run(films, tmp_path / "x.h5", shard="0/2", overwrite=True)


def test_a_full_disk_ends_the_shard_without_failing_videos(films, tmp_path, encoder, monkeypatch):
    from clep.bank import BankWriter

    out, write = tmp_path / "features.h5", BankWriter._write

    def full(self, uid, at, values):
        with self._disk_errors():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(BankWriter, "_write", full)
    with pytest.raises(InputError, match="No space left"):
        run(films, out)
    monkeypatch.setattr(BankWriter, "_write", write)
    assert run(films, out)["counts"]["done"] == 5


def test_with_on_error_stop_known_failures_count_too(films, tmp_path, encoder):
    (films / "0.mkv").write_bytes(b"")
    with pytest.raises(InputError, match=r"'0'.*0 bytes"):
        run(films, tmp_path / "features.h5", on_error="stop", n_shards=6)
    run(films, tmp_path / "features.h5")
    with pytest.raises(InputError, match=r"'0'.*on_error=skip"):
        run(films, tmp_path / "features.h5", on_error="stop")


def test_unusual_ids_survive_the_ledger(films, tmp_path, encoder):
    (tmp_path / "odd").mkdir()
    for name in ("a\u2028b", "tab\there", "new\nline", "x\udcff"):
        shutil.copy(films / "e.mp4", tmp_path / "odd" / f"{name}.mp4")
    out = tmp_path / "features.h5"
    run(tmp_path / "odd", out)
    encoder.clips = 0
    run(tmp_path / "odd", out)
    assert encoder.clips == 0
    assert len(read_ledger(ledger_path(out))) == 4
