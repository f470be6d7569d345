"""Parts of docs/own_parts.md: trained, resumed, evaluated, ablated and loaded from a file outside the package."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from rich.console import Console

import clep
from clep.ablate import ablate
from clep.ablation.cells import Outcome, command
from clep.ablation.grid import Grid, read_grid
from clep.bank import FeatureBank
from clep.config.compose import compose_config
from clep.config.overrides import split_config_dir
from clep.errors import InputError
from clep.evaluate import evaluate
from clep.files import read_json
from clep.preprocess.__main__ import job_options
from clep.preprocess.__main__ import main as preprocess
from clep.preprocess.job import build_job, ensure
from clep.train import main
from clep.training.settings import checked_settings
from tests.colour_films import COLOURS, write_films
from tests.own_parts import code_blocks, write_own_parts, write_pairs

SMALL = ("data.batch_size=24", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=none", "callbacks=last")
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none", "report=null")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with mine.py and my_conf, in which commands are run."""
    folder = tmp_path_factory.mktemp("own parts")
    write_own_parts(folder)
    write_pairs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("mine", None)


def train(name: str, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words, *QUIET])
        patch.setenv("CLEP_RUN_ID", name)
        main()


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    train("whole", "--config-dir", "my_conf", "experiment=pairs", "final_weights=last", *SMALL)
    return folder / "runs" / "pairs" / "whole"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_the_run_is_made_of_them(run: Path, folder: Path) -> None:
    assert {"mine/spread", "before/mine/spread", "val/retrieval/t2v/r1"} <= set(read_json(run / "metrics.json"))
    assert read_json(run / "coverage.json")["data"]["pairs"]["moments"] == 120
    recorded = read_json(run / "parts.json")
    names = {part["name"].removeprefix("mine."): part["file"] for part in recorded["parts"]}
    assert set(names) == {
        *("VideoToText", "HalfPositives", "LastRow", "ShiftedEncoder", "Neighbours", "CsvSource", "Spread"),
        "VideoSideOnly",
    }
    assert set(names.values()) == {str(folder / "mine.py")}
    assert recorded["config_dirs"] == [str(folder / "my_conf")]
    assert "_target_: mine.CsvSource" in (run / "config.yaml").read_text()
    before = weights(run)
    assert before["model.offset"].abs().max() > 0


class StopAfter(pl.Callback):
    """Press Ctrl-C after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.current_epoch == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def ctrl_c_still_works() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)  # the trainer ignores the signal from its first on
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_still_works")
def test_it_is_resumed_to_the_last_bit(run: Path, folder: Path) -> None:
    words = ("--config-dir", "my_conf", "experiment=pairs", "final_weights=last", *SMALL)
    stop = f"+callbacks.stop={{_target_: {__name__}.StopAfter, epochs: 1}}"
    with pytest.raises(SystemExit):
        train("stopped", *words, stop)
    train("stopped", *words)
    ours, theirs = weights(run.parent / "stopped"), weights(run)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_evaluate_builds_them_only_if_they_are_allowed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules.pop("mine")
    message = r"mine\.\w+' is not allowed.*mine\.py.*add allow=\[mine\] --config-dir .*my_conf'?$"
    with pytest.raises(InputError, match=message):
        evaluate(run, [], out=tmp_path, device="cpu")
    assert "mine" not in sys.modules
    sys.modules["mine"] = module
    expected = read_json(run / "metrics.json")
    for options in ({"config_dir": "my_conf"}, {}):
        found = evaluate(run, [], out=tmp_path, device="cpu", allow=["mine"], **options)
        assert found == {name: pytest.approx(expected[name], abs=1e-4) for name in found}
        assert "mine/spread" in found


def test_load_builds_them_only_if_they_are_allowed(run: Path, folder: Path) -> None:
    module = sys.modules.pop("mine")
    with pytest.raises(InputError, match=r"model\._target_='mine\.ShiftedEncoder' is not allowed.*allow=\[mine\]"):
        clep.load(run, device="cpu")
    assert "mine" not in sys.modules
    sys.modules["mine"] = module
    model = clep.load(run, device="cpu", allow=["mine."])
    assert type(model.encoder).__name__ == "ShiftedEncoder"
    bank = FeatureBank.open(folder / "bank.h5")
    assert model.embed_video(bank, "v1", 0.0, 3.0).shape == (1, 64)
    state = weights(run)
    assert all(torch.equal(value, state[f"model.{name}"]) for name, value in model.encoder.state_dict().items())


def test_it_is_ablated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells' own commands, in this process."""

    def run_cells(grid: Grid, report: Callable[[Outcome], None]) -> list[Outcome]:
        outcomes = []
        for cell in grid.cells():
            words = command(cell, grid.out / cell.name, grid.config_dir)[3:]
            train(cell.name, *words)
            outcomes.append(Outcome(cell, read_json(grid.out / cell.name / "metrics.json"), 1.0))
        return outcomes

    monkeypatch.setattr("clep.ablate.run_cells", run_cells)
    losses = "loss._target_=mine.VideoToText,clep.losses.ClipLoss"
    options = ["trainer.max_epochs=1", "out=ablation", "metrics=[mine/spread]"]
    words = ["--config-dir", "my_conf", "experiment=pairs", *SMALL[:1], *SMALL[2:], *options, losses]
    table = ablate(words, Console(quiet=True))
    assert [row["row"] for row in table["rows"]] == [f"loss._target_={name}" for name in losses[14:].split(",")]
    assert all(row["metrics"]["mine/spread"]["mean"] > 0 for row in table["rows"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.window.pool=mean"], r"LastRow needs data\.window\.pool=rows \(it reads the last row\), but .* is mean"),
        (["data.shuffle=false"], r"Neighbours needs data\.shuffle=true .*set data\.shuffle=true"),
        (["model.init_bias=-10"], r"model\.init_bias .* VideoToText cannot"),
        (["model.video.out_dim=wide"], r"model\.video\.out_dim='wide' is of type str, but LastRow takes int"),
        (["data.sources.pairs.csv=3"], r"data\.sources\.pairs\.csv=3 is of type int, but CsvSource takes str"),
        (["loss._target_=mine.VideoToTxt"], r"'mine\.VideoToTxt' cannot be imported: .*did you mean 'VideoToText'"),
    ],
)
def test_their_mistakes_are_answered_as_those_of_clep(folder: Path, words: list[str], message: str) -> None:
    words = ["experiment=pairs", f"paths.run={folder}", *(f"++{word}" for word in words)]
    with pytest.raises(InputError, match=message):
        checked_settings(compose_config("train", words, "my_conf"))


def test_an_encoder_on_the_command_line(folder: Path) -> None:
    write_films(folder / "films", 2)
    words = ["videos", "videos=films", "output=colours.h5", "window=8", "stride=8"]
    assert preprocess([*words, "encoder={_target_: mine.MeanColour}"]) == 0
    bank = FeatureBank.open(folder / "colours.h5")
    assert (bank.encoder, bank.dim) == ("mean-colour-32", 3)
    colours = bank.mean(*bank.window(bank.index(["film0", "film1"]), 0.0, 1.0))
    expected = torch.tensor(COLOURS[:2]) / 255
    torch.testing.assert_close(colours, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("job", ["videos", "kinetics", "ava"])
def test_an_encoder_on_the_command_line_replaces_the_default(job: str) -> None:
    needed = ["videos=DIR", "output=x.h5"] if job == "videos" else []
    given = ["encoder={_target_: mine.MeanColour}", "encoder.crop_px=64"]
    options = job_options(job, [*needed, *given])
    assert options["extraction"]["encoder"] == {"_target_": "mine.MeanColour", "crop_px": 64}


def test_text_embeddings_by_the_guides_lines(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (block for block in code_blocks("python") if block.startswith("# embed.py"))
    (tmp_path / "pairs.csv").write_text((folder / "pairs.csv").read_text())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert FeatureBank.open("texts.h5").n_rows == 12


SUBTITLES = """1
00:00:01,500 --> 00:00:03,000
opens the
door

2
01:02:03,250 --> 01:02:04,000
takes, the cup
"""


def test_a_job_runs_by_its_dotted_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "subtitles").mkdir()
    (tmp_path / "subtitles" / "v1.srt").write_text(SUBTITLES)
    words = [f"paths.data={tmp_path}", f"paths.out={tmp_path}"]
    assert preprocess(["mine.Subtitles", *words]) == 0
    table = (tmp_path / "subtitles.csv").read_text().splitlines()
    assert table == ["video,start,end,text", "v1,1.5,3.0,opens the door", 'v1,3723.25,3724.0,"takes, the cup"']
    config = job_options("mine.Subtitles", words)
    assert config == {
        "_target_": "mine.Subtitles",
        "folder": f"{tmp_path}/subtitles",
        "output": f"{tmp_path}/subtitles.csv",
    }
    command = f"python -m clep.preprocess mine.Subtitles folder={tmp_path}/subtitles output={tmp_path}/subtitles.csv"
    assert build_job(config).command() == command
    assert ensure([config]) == [{"videos": 1, "moments": 2}]
    assert preprocess(["mine.Subtitles", "--help"]) == 0
    assert "of the .srt files" in capsys.readouterr().out
    assert preprocess(["mine.Subtitle", *words]) == 1
    assert "did you mean 'Subtitles'" in capsys.readouterr().err
    assert preprocess(["pathlib.Path", *words]) == 1
    assert "'pathlib.Path' is not a job" in capsys.readouterr().err


def test_jobs_read_a_config_folder_of_the_user(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for group, content in {"encoder/mean": "_target_: mine.MeanColour\ncrop_px: 16", "paths/mine": PATHS}.items():
        (tmp_path / group).with_suffix(".yaml").parent.mkdir()
        (tmp_path / group).with_suffix(".yaml").write_text(content)
    write_films(tmp_path / "films")
    words = ["videos", "--config-dir", str(tmp_path), "encoder=mean", "paths=mine", "sampling=segments"]
    assert preprocess([*words, f"videos={tmp_path / 'films'}"]) == 0
    assert FeatureBank.open(folder / "made" / "features.h5").encoder == "mean-colour-16"
    assert preprocess([*words[:-1], "encoder=meen"]) == 1
    assert "there is no encoder 'meen' in conf/encoder. Did you mean 'mean'" in capsys.readouterr().err
    assert preprocess(["videos", "--config-dir", "nowhere"]) == 1
    assert "--config-dir nowhere is not a folder" in capsys.readouterr().err


PATHS = "defaults: [default, _self_]\nout: made"


def test_the_guides_commands_compose(folder: Path) -> None:
    lines = [shlex.split(line)[2:] for block in code_blocks("") for line in block.splitlines()]
    assert {line[0] for line in lines} == {"clep.train", "clep.ablate", "clep.evaluate", "clep.preprocess"}
    for module, *words in lines:
        if module == "clep.train":
            words, config_dir = split_config_dir(words)
            cfg = compose_config("train", [*words, f"paths.run={folder}"], config_dir)
            assert checked_settings(cfg)["loss"]["_target_"] == "mine.VideoToText"
        elif module == "clep.ablate":
            assert len(read_grid(words).cells()) == 4


def test_an_ablation_in_the_config_folder(folder: Path) -> None:
    file = folder / "my_conf" / "ablation" / "losses.yaml"
    file.parent.mkdir()
    variants = {"mine": ["loss._target_=mine.VideoToText"], "clip": ["loss=clip"]}
    file.write_text(yaml.safe_dump({"overrides": ["experiment=pairs"], "variants": variants}, sort_keys=False))
    grid = read_grid(["ablation=losses", "--config-dir", "my_conf"])
    assert list(grid.variants) == ["mine", "clip"]
    with pytest.raises(InputError, match=r"there is no ablation .*losses\.yaml"):
        read_grid(["ablation=losses"])
    with pytest.raises(InputError, match=r"mine\.VideoToText' is not allowed.*allow=\[mine\]"):
        read_grid([f"ablation={file}"])
