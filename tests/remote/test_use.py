"""Banks, tables, features and videos behind URLs give what the same local files give."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from clep import remote
from clep.bank import BankWriter, Clock, FeatureBank, build_lmdb
from clep.bank.files import read_tables
from clep.data.video_clips import FixedViews
from clep.datasets.labelled_videos import LabelledVideos
from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger
from clep.preprocess.__main__ import main as preprocess
from clep.preprocess.bank_lmdb import BankLmdb
from clep.preprocess.own_data import Features, Table
from clep.remote import cache, reading, store
from clep.text import Narrations
from clep.train import main as train
from clep.video import ClipSpec
from clep.video.decoding import VideoFile, expected_seconds
from tests.extraction.conftest import encoded_films, films, run
from tests.extraction.conftest import encoder as brightness
from tests.preprocess.conftest import encoder
from tests.preprocess.test_own_data import write_own_data
from tests.remote.http_server import FileServer, serve
from tests.video.made_videos import regular, write_video

__all__ = ["brightness", "encoded_films", "encoder", "films"]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve(FileServer()) as running:
        yield running


def write_bank(path: Path, videos: str = "ab", rows: int = 6000) -> Path:
    with BankWriter(path, 64, Clock(2.0, 0.5), "float32", "made") as writer:
        for video in videos:
            values = np.random.default_rng(ord(video)).standard_normal((rows, 64)).astype(np.float32)
            writer.add(video, values)
    return path


def test_a_remote_bank_is_the_local_one(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    local = FeatureBank.open(write_bank(tmp_path / "bank.h5"))
    memory.put(str(tmp_path / "bank.h5"), "/lab/bank.h5")
    bank = FeatureBank.open("memory://lab/bank.h5", verify=True)
    assert bank.videos == local.videos
    assert bank.clock == local.clock
    assert bank.video_rows("b").equal(local.video_rows("b"))
    write_bank(tmp_path / "other.h5", "c")
    memory.put(str(tmp_path / "other.h5"), "/lab/other.h5")
    assert FeatureBank.open(Path("memory://lab")).videos == ["a", "b", "c"]


def test_a_damaged_remote_bank_is_refused(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    content = write_bank(tmp_path / "bank.h5").read_bytes()
    memory.pipe("/lab/bank.h5", content[:-100])
    with pytest.raises(InputError, match=r"bank.h5 is truncated"):
        FeatureBank.open("memory://lab/bank.h5").videos  # noqa: B018 - opened at first use


def test_tables_of_a_remote_bank_need_a_few_ranges(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "_BLOCK_BYTES", 1 << 16)
    content = write_bank(tmp_path / "bank.h5").read_bytes()
    server.files["/bank.h5"] = content
    bank = read_tables(f"{server.address}/bank.h5")
    assert bank.ids == ["a", "b"]
    assert (bank.first_row.tolist(), bank.dim, bank.encoder) == ([0, 6000, 12000], 64, "made")
    ranges = {wanted for method, _, wanted in server.requests if method == "GET"}
    read = sum(int(last) - int(first) + 1 for first, last in (one[6:].split("-") for one in ranges if one))
    assert read < len(content) / 5
    caplog.set_level("INFO")
    assert preprocess(["verify", f"path={server.address}/bank.h5", "rows=false"]) == 0
    assert "2 videos, 12,000 rows of 64 (made), rows not read" in caplog.text
    assert not cache.cache_folder().exists()
    server.files["/bank.h5"] = content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]
    assert preprocess(["verify", f"path={server.address}/bank.h5", "rows=false"]) == 1
    assert preprocess(["verify", f"path={server.address}/bank.h5"]) == 1


def test_videos_are_read_in_place(
    films: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path, brightness: object
) -> None:
    memory.put(str(films), "/films", recursive=True)
    run(films, tmp_path / "local.h5")
    coverage = run("memory://films", tmp_path / "remote.h5")  # type: ignore[arg-type]
    local, bank = FeatureBank.open(tmp_path / "local.h5"), FeatureBank.open(tmp_path / "remote.h5")
    assert bank.videos == local.videos == ["a", "b", "e", "more/c", "more/d"]
    assert all(bank.video_rows(name).equal(local.video_rows(name)) for name in bank.videos)
    assert coverage["counts"]["done"] == 5
    assert not cache.cache_folder().exists()
    assert run("memory://films", tmp_path / "remote.h5")["up_to_date"]  # type: ignore[arg-type]
    memory.cp("/films/e.mp4", "/films/b.mp4")
    before = {entry.id: entry.fingerprint for entry in read_ledger(ledger_path(tmp_path / "remote.h5"))}
    assert not run("memory://films", tmp_path / "remote.h5")["up_to_date"]  # type: ignore[arg-type]
    changed = {entry.id for entry in read_ledger(ledger_path(tmp_path / "remote.h5"))
               if entry.fingerprint != before[entry.id]}  # fmt: skip
    assert changed == {"b"}


def test_a_list_may_name_urls(
    films: Path, memory: fsspec.AbstractFileSystem, server: FileServer, tmp_path: Path, brightness: object
) -> None:
    memory.put(str(films / "a.mp4"), "/films/a.mp4")
    server.files["/e.mp4"] = (films / "e.mp4").read_bytes()
    server.ranges = False
    shutil.copy(films / "b.mp4", tmp_path / "b.mp4")
    (tmp_path / "videos.txt").write_text(f"a\tmemory://films/a.mp4\ne\t{server.address}/e.mp4?x=1\nb\tb.mp4\n")
    run(tmp_path / "videos.txt", tmp_path / "bank.h5")
    bank = FeatureBank.open(tmp_path / "bank.h5")
    assert bank.videos == ["a", "b", "e"]
    assert bank.n_rows == 5
    memory.pipe("/films/list.csv", b"id,path\none,a.mp4\n")
    run("memory://films/list.csv", tmp_path / "one.h5")  # type: ignore[arg-type]
    assert FeatureBank.open(tmp_path / "one.h5").videos == ["one"]


def test_a_failing_server_costs_no_rows_and_is_tried_again(
    films: Path, server: FileServer, tmp_path: Path, brightness: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BLOCK_BYTES", 4096)
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3), dtype=np.uint8)
    film = write_video(tmp_path / "a.mp4", regular(60, 30), rate=30, pictures=list(noise))
    server.files = {"/a.mp4": film.read_bytes(), "/e.mp4": (films / "e.mp4").read_bytes()}
    assert len(server.files["/a.mp4"]) > 200_000
    (tmp_path / "videos.txt").write_text("".join(f"{name}\t{server.address}/{name}.mp4\n" for name in "ae"))
    packets = VideoFile._packets

    def and_fail(self: VideoFile) -> Iterator[object]:
        for index, packet in enumerate(packets(self)):
            if index == 2 and str(self.path).endswith("/a.mp4"):
                server.status["/a.mp4"] = 503
                assert self._remote is not None
                self._remote._forget()  # the blocks in memory
            yield packet

    with monkeypatch.context() as patched:
        patched.setattr(VideoFile, "_packets", and_fail)
        run(tmp_path / "videos.txt", tmp_path / "bank.h5")
    entries = {entry.id: entry for entry in read_ledger(ledger_path(tmp_path / "bank.h5"))}
    assert (entries["a"].status, entries["a"].final, entries["e"].status) == ("failed", False, "done")
    assert "HTTP status 503" in entries["a"].reason
    server.status.clear()
    assert run(tmp_path / "videos.txt", tmp_path / "bank.h5")["counts"]["done"] == 2
    run(film.parent, tmp_path / "local.h5")
    local, bank = FeatureBank.open(tmp_path / "local.h5"), FeatureBank.open(tmp_path / "bank.h5")
    assert bank.video_rows("a").equal(local.video_rows("a"))


def test_lengths_and_wrong_files(films: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(str(films / "a.mp4"), "/a.mp4")
    memory.pipe({"/empty.mp4": b"", "/text.mp4": b"no video" * 100})
    assert expected_seconds("memory://a.mp4") == pytest.approx(2.0, abs=0.05)
    for name, message in (("empty", "is empty"), ("text", "cannot be opened as a video"), ("none", "does not exist")):
        with pytest.raises(InputError, match=f"memory://{name}.mp4 {message}"):
            VideoFile(f"memory://{name}.mp4")


def test_a_remote_table_with_remote_features(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, encoder: object
) -> None:
    write_own_data(tmp_path / "local")
    memory.put(str(tmp_path / "local"), "/lab", recursive=True)
    options = {"rows_per_second": 2.0, "output": tmp_path / "bank.h5"}
    Features(features="memory://lab/features", **options).run()
    assert Features(features="memory://lab/features", **options).run()["up_to_date"]
    with pytest.raises(InputError, match=r"memory://lab/features is remote.*output=FILE"):
        Features(features="memory://lab/features", rows_per_second=2.0).run()
    columns = {"text": "caption"}
    for name, table in (("there", "memory://lab/pairs.csv"), ("here", tmp_path / "local" / "pairs.csv")):
        Table(
            table=table,
            bank=tmp_path / "bank.h5",
            columns=columns,
            output_folder=tmp_path / name,
            text_encoder="fake",
        ).run()
    there, here = (Narrations.open(tmp_path / name / "narrations.arrow") for name in ("there", "here"))
    assert there.digest == here.digest
    memory.put(str(tmp_path / "bank.h5"), "/lab/bank.h5")
    done = Features(features="memory://lab/bank.h5").run()
    assert done["counts"]["rows"] == FeatureBank.open(tmp_path / "bank.h5").n_rows


@pytest.mark.slow
def test_one_command_trains_on_remote_data(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, encoder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_data(tmp_path / "local")
    memory.put(str(tmp_path / "local"), "/lab", recursive=True)
    monkeypatch.setenv("CLEP_RUN_ID", "one")
    words = [
        *("experiment=table", "data.table=memory://lab/pairs.csv", "data.features=memory://lab/features"),
        *("data.features_per_second=2", "data.columns.text=caption", "text_encoder=fake", "data.batch_size=16"),
        *(f"paths.out={tmp_path / 'out'}", f"paths.runs={tmp_path / 'runs'}", "trainer.max_epochs=1", "logger=none"),
        *("hydra/job_logging=none", "hydra/hydra_logging=none", "trainer.accelerator=cpu"),
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    train()
    assert (tmp_path / "runs" / "table" / "one" / "metrics.json").exists()
    assert (tmp_path / "out" / "features.bank.h5").exists()


def test_a_command_names_what_is_missing(
    memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert preprocess(["table", "table=memory://lab/pairs.csv", "bank=memory://lab/bank.h5"]) == 1
    said = capsys.readouterr().err + caplog.text
    assert "memory://lab/bank.h5 does not exist" in said
    assert "Traceback" not in said
    assert preprocess(["features", "features=memory://lab/bank.h5", "output=s3://lab/out.h5"]) == 1
    assert store.PAUSES_S  # nothing waited


def test_results_are_not_written_to_a_url() -> None:
    with pytest.raises(InputError, match=r"cannot write s3://lab/out\.h5.*local path"):
        BankWriter(Path("s3://lab/out.h5"), 4, Clock(2.0, 0.5), "float32", "made").__enter__()
    assert remote.is_remote("s3://lab/out.h5")


def test_an_lmdb_of_a_remote_bank_is_refused() -> None:
    for read in (lambda url: FeatureBank.open(url, "lmdb"), build_lmdb, lambda url: BankLmdb(bank=url).run()):
        for url in ("s3://lab/bank.h5", "s3://lab/bank.lmdb", Path("s3://lab/bank.h5")):
            with pytest.raises(InputError, match=r"s3://lab/bank\.\w+: an LMDB .*local disk.*device=disk"):
                read(url)


def test_a_remote_list_of_labelled_videos_is_read_and_decoded_in_place(
    memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mp4", regular(30, 25), rate=25)
    memory.pipe("/lab/a.mp4", (tmp_path / "a.mp4").read_bytes())
    memory.pipe("/lab/list.csv", b"a.mp4,1\nmemory://lab/gone.mp4,0\n")
    (tmp_path / "list.csv").write_text(f"memory://lab/a.mp4,1\n{tmp_path / 'a.mp4'},0\n")
    clip = ClipSpec(frames=4, crop_px=16, short_side_px=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    for listed, videos in (
        ("memory://lab/list.csv", ["memory://lab/a.mp4", "memory://lab/gone.mp4"]),
        (tmp_path / "list.csv", ["memory://lab/a.mp4", str(tmp_path / "a.mp4")]),
    ):
        found, missing = LabelledVideos.read(listed).existing("error")
        assert not missing
        assert [remote.shown(path) for path in found.paths] == videos
        batch = FixedViews(found, clip, crops="centre").__getitems__([0, 1])
        assert batch["target"].tolist() == [1, -1 if "gone" in videos[1] else 0]
        assert len(batch["unreadable"]) == ("gone" in videos[1])
        assert all("memory://lab/gone.mp4" in reason for reason in batch["unreadable"])
