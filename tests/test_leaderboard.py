"""The leaderboard: pairs of models and benchmarks, what is measured, and what is listed as missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from clep.extraction import text as text_rows
from clep.files import read_json
from clep.leaderboard import Entry, _settings, main, run_leaderboard, to_markdown
from clep.models.published import load_published
from clep.preprocess.benchmarks import EpicMir
from clep.weights import published_name
from tests.evaluation.test_epic_mir import write_epic
from tests.evaluation.tiny_benchmarks import write_rows
from tests.evaluation.tiny_clips import WORDS, model_for
from tests.models.published.tiny_checkpoints import SIZES, args, lavila, save
from tests.preprocess.conftest import FakeEncoder, embed
from tests.tiny_source import TEXT_DIM
from tests.video.made_videos import regular, write_video


class Encoder(FakeEncoder):
    """Embeds a sentence by its hash, under the name of a published model."""

    def __init__(self, name: str, dim: int = 4) -> None:
        super().__init__()
        self.name, self.dim = name, dim

    def stream(self, texts, chunk=8192, progress=True):
        for offset in range(0, len(texts), chunk):
            yield offset, np.stack([np.resize(embed(text), self.dim) for text in texts[offset : offset + chunk]])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """EPIC-KITCHENS' files, and a checkpoint that holds no more than LaViLa's scale."""
    folder = tmp_path / "data" / "epic_kitchens"
    folder.mkdir(parents=True)
    write_epic(folder)
    (folder / "clips.csv").rename(folder / "EPIC_100_retrieval_test.csv")
    (folder / "sentences.csv").rename(folder / "EPIC_100_retrieval_test_sentence.csv")
    (tmp_path / "data" / "models").mkdir()
    torch.save({"state_dict": {"module.logit_scale": torch.tensor(2.0)}}, tmp_path / "data/models/lavila_tsf_b.pth")
    return tmp_path / "data"


def clips_of(data: Path) -> list[list[str]]:
    lines = (data / "epic_kitchens" / "EPIC_100_retrieval_test.csv").read_text().splitlines()[1:]
    return [line.split(",") for line in lines]


def test_a_published_model_is_measured_beside_its_published_value(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The features are there; its sentences are embedded by the leaderboard. Rows equal their clip's sentence."""
    name = published_name("lavila", data / "models" / "lavila_tsf_b.pth")
    monkeypatch.setattr(text_rows, "load_encoder", lambda *_: Encoder(name))
    folder = data / "clep" / "leaderboard" / "lavila_tsf_b" / "epic_mir"
    with BankWriter(folder / "features.h5", 4, Clock(1.0, 1.0), "float32", name) as writer:
        for cells in clips_of(data)[3:]:
            writer.add(cells[0], embed(cells[8])[None])
    main([f"paths.data={data}", "models=[lavila_tsf_b,avion_b]", "benchmarks=[epic_mir,egomcq]"])
    entries = {(one["model"], one["benchmark"]): one for one in read_json(folder.parents[1] / "leaderboard.json")}
    assert len(entries) == 4
    measured = entries["LaViLa TSF-B", "EPIC-KITCHENS-100 MIR"]
    assert set(measured["metrics"]) == {"ek100_mir/mean/mAP", "ek100_mir/mean/nDCG"}
    assert measured["metrics"]["ek100_mir/mean/mAP"] > 50
    assert measured["published"]["ek100_mir/mean/mAP"] == {
        "value": 29.7, "tolerance": 0.5, "source": "LaViLa MODEL_ZOO"
    }  # fmt: skip
    assert (measured["coverage"]["clips"], measured["coverage"]["clips with features"]) == (30, 27)
    assert "egomcq.json" in entries["LaViLa TSF-B", "EgoMCQ"]["missing"]
    assert "avion_b.pt: download them (github.com/zhaoyue-zephyrus/AVION" in entries["AVION ViT-B", "EgoMCQ"]["missing"]
    # Weights and files of the benchmark are listed together.
    assert "egomcq.json: download egomcq.json by github.com" in entries["AVION ViT-B", "EgoMCQ"]["missing"]
    text = (folder.parents[1] / "leaderboard.md").read_text()
    assert "| EPIC-KITCHENS-100 MIR | LaViLa TSF-B | ek100_mir/mean/mAP |" in text
    assert "27 of 30 clips" in text
    assert text.count("\n| ") == 2 + 2 + 2 + 3  # header, two figures, header, three pairs that could not be run
    assert "97.51" in capsys.readouterr().out


def test_features_that_are_missing_are_listed_with_the_command_that_makes_them(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = published_name("lavila", data / "models" / "lavila_tsf_b.pth")
    monkeypatch.setattr(text_rows, "load_encoder", lambda *_: Encoder(name))
    (one,) = run_leaderboard([f"paths.data={data}", "models=lavila_tsf_b", "benchmarks=epic_mir"])
    assert not one.metrics
    assert "python -m clep.preprocess clips table=" in one.missing
    assert "encoder=lavila" in one.missing
    assert (data / "clep/leaderboard/lavila_tsf_b/epic_mir/clips.csv").is_file()


def test_a_run_of_ones_own_takes_part(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "load_encoder", lambda *_: Encoder(WORDS, TEXT_DIM))
    model_for().save_pretrained(data / "run" / "model")
    folder = data / "epic_kitchens"
    EpicMir(
        clips=folder / "EPIC_100_retrieval_test.csv",
        sentences=folder / "EPIC_100_retrieval_test_sentence.csv",
        output_folder=data / "clep/epic_mir",
        text_encoder=WORDS,
    ).run()
    rows = write_rows(
        data / "clep/epic_mir/features.h5", [cells[0] for cells in clips_of(data)], np.random.default_rng(0)
    )
    run = str(data / "run" / "model")
    (one,) = run_leaderboard([f"paths.data={data}", f"models='{run}'", "benchmarks=epic_mir"])
    assert not one.missing
    assert set(one.metrics) == {"ek100_mir/mean/mAP", "ek100_mir/mean/nDCG"}
    assert one.coverage["clips with features"] == len(rows) == 30


def test_the_page_says_whether_a_value_is_within_its_tolerance() -> None:
    published = {"m": {"value": 30.0, "tolerance": 0.5, "source": "paper"}}
    entries = [
        Entry("A", "B", {"m": 30.4, "n": 1.0}, published, {"clips": 2000, "clips with features": 1500}),
        Entry("C", "B", {"m": 28.0}, published),
        Entry("D", "B", missing="no weights | download them"),
    ]
    lines = to_markdown(entries).splitlines()
    assert "| B | A | m | 30.40 | 30.0 | +0.40 | yes | paper | 1,500 of 2,000 clips |" in lines
    assert "| B | A | n | 1.00 |  |  |  |  | 1,500 of 2,000 clips |" in lines
    assert "| B | C | m | 28.00 | 30.0 | -2.00 | no (± 0.5) | paper |  |" in lines
    assert lines[-1] == "| B | D | no weights / download them |"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "models=lavila_tsf_c",
            "models=lavila_tsf_c is unknown, and there is no such folder. Did you mean",
        ),
        ("benchmarks=[epic]", "benchmarks=epic is unknown"),
    ],
)
def test_an_unknown_name_is_refused(data: Path, word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_leaderboard([f"paths.data={data}", word])


def test_every_published_value_belongs_to_a_known_model_and_metric() -> None:
    settings = _settings([], None)
    metrics = {metric for one in settings["known_benchmarks"].values() for metric in one["metrics"]}
    for one in settings["published"]:
        assert one["model"] in settings["known_models"]
        assert one["metric"] in metrics
        assert one["tolerance"] > 0
    titles = [(one["title"], one.get("frames")) for one in settings["known_models"].values()]
    assert len(set(titles)) == len(titles)


def test_charades_ego_is_measured_on_whole_films(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spans are whole films; once their rows are there, the class names as they stand are the prompts."""
    name = published_name("lavila", data / "models" / "lavila_tsf_b.pth")
    monkeypatch.setattr(text_rows, "load_encoder", lambda *_: Encoder(name))
    folder = data / "ego_charades"
    folder.mkdir()
    (folder / "Charades_v1_classes.txt").write_text("c000 Holding some clothes\nc001 Opening a door\n")
    rows = ["A1EGO,c000 1.0 2.0,31.5,Yes", "B2EGO,c001 0.0 2.0;c000 0.0 1.0,12.25,Yes"]
    (folder / "CharadesEgo_v1_test_only1st.csv").write_text("\n".join(["id,actions,length,egocentric", *rows]) + "\n")
    words = [f"paths.data={data}", "models=lavila_tsf_b", "benchmarks=ego_charades"]
    (one,) = run_leaderboard(words)
    out = data / "clep/leaderboard/lavila_tsf_b/ego_charades"
    assert f"videos={folder}/videos output={out}/rows.h5" in one.missing
    assert (out / "clips.csv").read_text() == "clip,video,start,end\nA1EGO,A1EGO,0.0,31.5\nB2EGO,B2EGO,0.0,12.25\n"
    with BankWriter(out / "rows.h5", 4, Clock(1.0, 1.0), "float32", name) as writer:
        for film, label in (("A1EGO", "Holding some clothes"), ("B2EGO", "Opening a door")):
            writer.add(film, embed(label)[None])
    (one,) = run_leaderboard(words)
    assert not one.missing
    # Both films hold clothes; only the second opens a door, and its row is that class's own sentence.
    assert one.metrics == {"zeroshot/ego_charades/ego/label/mAP": 100.0}


def test_egtea_is_measured_on_thirty_views_of_trimmed_clips(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the clips' own films: ten views in time of 16 frames in three crops; the best cosine of a class counts."""
    weights = save(data / "models" / "lavila_tsf_b.pth", lavila(), args=args())
    weights.with_suffix(".json").write_text(json.dumps(SIZES))
    name = published_name("lavila", weights)
    texts = Encoder(name, load_published("lavila", weights).dim)
    monkeypatch.setattr(text_rows, "load_encoder", lambda *_: texts)
    folder, random = data / "egtea", np.random.default_rng(0)
    ids = [f"OP01-R01-Pasta-{start}000-{start + 2}000-F{start:06d}-F{start + 50:06d}" for start in range(4)]
    for clip in ids:
        (folder / "videos" / "OP01-R01-Pasta").mkdir(parents=True, exist_ok=True)
        pictures = [random.integers(0, 255, (44, 60, 3), dtype=np.uint8) for _ in range(50)]
        write_video(folder / "videos" / "OP01-R01-Pasta" / f"{clip}.mp4", regular(50, 25), rate=25, pictures=pictures)
    (folder / "action_idx.txt").write_text("Open fridge 1\nCut tomato 2\nWash_pan pan 3\n")
    labels = [2, 1, 3, 2]
    (folder / "test_split1.txt").write_text("".join(f"{clip} {k} 1 1\n" for clip, k in zip(ids, labels, strict=True)))
    (one,) = run_leaderboard([f"paths.data={data}", "models=lavila_tsf_b_16f", "benchmarks=egtea", "device=cpu"])
    assert not one.missing
    assert one.published["egtea/mean_class_accuracy"]["value"] == 28.9
    assert (one.coverage["clips with features"], one.coverage["views"]) == (4, 4 * 10 * 3)
    bank = FeatureBank.open(data / "clep/leaderboard/lavila_tsf_b_16f/egtea/features.h5")
    classes = np.stack([rows for _, rows in texts.stream(["open fridge", "cut tomato", "wash pan pan"])])[0]
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    right = []
    for clip in ids:
        rows = bank.video_rows(clip).float().numpy()
        right.append(int((rows / np.linalg.norm(rows, axis=1, keepdims=True) @ classes.T).max(axis=0).argmax()) + 1)
    hits = np.equal(right, labels)
    by_class = np.mean([hits[np.equal(labels, k)].mean() for k in (1, 2, 3)])
    assert one.metrics["egtea/mean_class_accuracy"] == pytest.approx(100 * by_class)
    assert one.metrics["egtea/top1"] == pytest.approx(100 * hits.mean())
