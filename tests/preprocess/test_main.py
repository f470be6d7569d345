import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import clep
from clep.bank import FeatureBank
from clep.preprocess import packing
from clep.preprocess.__main__ import job_options, main

from .conftest import write_features


def environment() -> dict[str, str]:
    """The environment for a process that imports this `clep`, installed or not."""
    return {**os.environ, "PYTHONPATH": str(Path(clep.__file__).parents[1])}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_features(tmp_path / "data" / "ego4d" / "features", {"a": 3})
    (tmp_path / "data" / "ego4d" / "ego4d.json").write_text('{"videos": [{"video_uid": "a", "duration_sec": 2.1}]}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_word_is_the_job(folder, capsys):
    assert main(["ego4d_features"]) == 0
    assert (folder / "data" / "clep" / "ego4d_features.h5").exists()
    assert "videos packed" in capsys.readouterr().out


def test_paths_and_options_are_overridden(folder):
    assert main(["job=ego4d_features", "paths.data=data", "paths.out=out", "dtype=float32", "ego4d_json=null"]) == 0
    assert str(FeatureBank.open(folder / "out" / "ego4d_features.h5").dtype) == "torch.float32"


def test_the_command_writes_nothing_but_its_outputs(folder):
    assert main(["ego4d_features", "paths.out=out"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["data", "out"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        ".ego4d_features.h5.lock",
        ".ego4d_features.shards.lock",
        "ego4d_features.coverage.json",
        "ego4d_features.h5",
        "ego4d_features.ledger.jsonl",
    ]


def test_a_wrong_option_is_named_where_there_are_no_videos_either(folder, capsys):
    (folder / "empty").mkdir()
    words = ["videos=empty", "output=features.h5", "encoder=efficientnet_lite0", "window=0"]
    assert main(["videos", *words]) == 1
    assert "window=0 must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no job given"),
        (["ego4d_feature"], "there is no job 'ego4d_feature'. Did you mean 'ego4d_features'"),
        (["ego4d_features", "kinetics"], "'kinetics' is not key=value"),
        (["--features", "x"], "'--features' is not key=value"),
        (["ego4d_features", "dtyp=float32"], "no option 'dtyp'. Did you mean 'dtype'?"),
        (["ego4d_features", "paths.dta=x"], "there is no path 'paths.dta'. Did you mean 'data'?"),
        (["ego4d_features", "paths=defaul"], "there is no paths=defaul. Did you mean paths=default?"),
        (["ego4d_features", "dtype=float64"], "dtype=float64 is unknown. Did you mean 'float16'"),
        (["ego4d_features", "overwrite=maybe"], "overwrite='maybe'"),
        (["ego4d_features", "shard_bytes=1.5"], "shard_bytes=1.5"),
        (["ego4d_features", "output=a,b"], "needs quotes"),
        (["ego4d_features", "paths.data=nowhere"], "nowhere/ego4d/features is not a folder"),
        (["ego4d_features", "rows_per_second=-1"], "rows_per_second"),
    ],
)
def test_a_mistake_gives_one_sentence_and_status_1(folder, capsys, words, message):
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert "Traceback" not in printed
    assert not list(folder.rglob("*.h5"))


def test_ctrl_c_gives_status_130_and_the_way_to_continue(folder, capsys, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "pack_features", stop)
    assert main(["ego4d_features"]) == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_its_status_and_the_way_to_continue(folder, capsys, monkeypatch, number):
    monkeypatch.setattr(packing, "pack_features", lambda *args: os.kill(os.getpid(), number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["ego4d_features"]) == 128 + number
    finally:
        signal.signal(number, before)
    assert f"stopped by signal {int(number)}; run the same command again" in capsys.readouterr().err


def test_help_lists_the_jobs_without_importing_them(folder):
    code = "import sys; from clep.preprocess.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for job in ("ego4d_features", "ego4d_narrations", "kinetics", "ego_charades"):
        assert job in done.stdout


def test_help_of_a_job_lists_options_defaults_and_meanings(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["ego4d_features", "--help", "paths.data=DIR"]) == 0
    printed = capsys.readouterr().out
    assert "Ego4D's folder of <uid>.pt features" in printed
    assert "DIR/clep/ego4d_features.h5" in printed
    assert "number format of the bank" in printed
    assert not list(folder.rglob("*.h5"))


def test_names_of_columns_are_given_one_by_one(folder, capsys):
    words = ["columns.clip=narration_id", "columns.start=from"]
    assert job_options("clips", words)["columns"] == {"clip": "narration_id", "start": "from"}
    (folder / "clips.csv").write_text("id\na\n")
    (folder / "films").mkdir()
    for name in ("clips", "clip_views"):
        start = [name, "table=clips.csv", "videos=films"]
        assert main([*start, "columns.clipp=id"]) == 1
        assert "columns.clipp: there is no such column. Did you mean 'clip'?" in capsys.readouterr().err
        assert main([*start, "columns.clip=id"]) == 1
        assert "films has none of the 1 clips of clips.csv; 'a': no video a in films" in capsys.readouterr().err
    assert main(["clips", "table.clip=id"]) == 1
    assert "no option 'table.clip'" in capsys.readouterr().err
