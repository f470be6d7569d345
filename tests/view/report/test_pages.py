"""Pages of reports, from folders of runs that were made without training."""

import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from clep.errors import InputError
from clep.evaluation.details import DETAILS
from clep.files import read_json
from clep.metrics.history import HISTORY
from clep.report import main, report
from clep.view.report.record import read_run
from clep.view.report.statistics import difference
from tests.view.report.made_run import made_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "good", noise=0.3)
    made_run(folder / "bad", noise=1.5)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return report([folder / "good"]).read_text()


def drawings(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, re.DOTALL)


def test_a_page_needs_nothing_else(page: str) -> None:
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert len(page) < 8_000_000


def test_text_of_the_data_is_escaped(page: str) -> None:
    assert "<b>thing</b>" not in page
    assert "&lt;b&gt;thing&lt;/b&gt;" in page


def test_drawings_are_well_formed_and_described(page: str) -> None:
    found = drawings(page)
    assert len(found) >= 8
    for drawing in found:
        tree = ET.fromstring(drawing)
        assert tree.get("role") == "img"
        assert len(tree.get("aria-label", "")) > 20
        assert "nan" not in drawing.lower()


def test_sections_figures_and_links(page: str, folder: Path) -> None:
    for heading in ("Results", "Learning", "Retrieval", "Classes", "Embeddings", "Coverage", "Settings"):
        assert re.search(rf"<h2[^>]*>{heading}</h2>", page)
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    metrics = read_json(folder / "good" / "metrics.json")
    assert f"{metrics['val/retrieval/t2v/r1']:.1f} <small>%" in page
    assert "1,234" in page
    assert "the weights with the highest val/retrieval/t2v/r1" in page
    assert "epoch 3" in page


def test_tables_and_scrolling_parts_are_reachable(page: str) -> None:
    for tag in re.findall(r'<div class="scroll"[^>]*>', page):
        assert 'tabindex="0"' in tag
        assert 'role="region"' in tag
        assert re.search(r'aria-label="[^"]+"', tag)
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_comparison_has_differences_with_intervals(folder: Path, tmp_path: Path) -> None:
    html = report([folder / "bad", folder / "good"], out=tmp_path / "c.html").read_text()
    one, other = read_run(folder / "bad"), read_run(folder / "good")
    found, queries = difference(one, other, "val/retrieval/t2v/r1")
    assert queries == 120
    assert found.value == pytest.approx(other.metrics["val/retrieval/t2v/r1"] - one.metrics["val/retrieval/t2v/r1"])
    assert f'{found.value:+.2f} <span class="interval">[{found.low:+.2f}, {found.high:+.2f}]</span>' in html
    assert "<code>noise</code>" in html
    assert "<code>paths.run</code>" not in html
    assert "Gained most" in html


def test_a_sweep_has_a_row_for_each_setting(tmp_path: Path) -> None:
    for index, (noise, seed) in enumerate([(0.3, 0), (0.3, 1), (1.5, 0), (1.5, 1)]):
        made_run(tmp_path / "sweep" / str(index), noise, seed=seed, pairs=30)
    (tmp_path / "sweep" / "multirun.yaml").write_text("")
    (tmp_path / "sweep" / "4" / ".hydra").mkdir(parents=True)  # did not end
    (tmp_path / "sweep" / "4" / ".hydra" / "overrides.yaml").write_text("[noise=9, seed=0]")
    report([tmp_path / "sweep" / "1"])
    html = report([tmp_path / "sweep"]).read_text()
    values = [read_json(tmp_path / "sweep" / str(i) / "metrics.json")["val/retrieval/t2v/r1"] for i in (0, 1)]
    assert f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" in html
    assert html.partition("</table>")[0].count('<th scope="row">noise=0.3</th>') == 1
    assert 'href="1/report.html"' in html
    assert "noise=9" in html
    assert "has no metrics.json" in html


def test_a_run_with_metrics_alone_has_a_page(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.json").write_text('{"zeroshot/kinetics/top1": 12.5, "broken": null}')
    assert "12.5 <small>%" in report([tmp_path / "old"]).read_text()


def test_bad_input_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="nowhere is not a folder"):
        report([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no metrics.json.*give that of a run$"):
        report([tmp_path / "empty"])
    (tmp_path / "empty" / "config.yaml").write_text("name: stopped\n")
    with pytest.raises(InputError, match="has no metrics.json.*continue it, its command with ckpt_path=last"):
        report([tmp_path / "empty"])
    assert main([str(folder), "video=films"]) == 1
    damaged = made_run(tmp_path / "damaged", pairs=10)
    whole = (damaged / DETAILS).read_bytes()
    (damaged / DETAILS).write_bytes(whole[:-9])
    with pytest.raises(InputError, match="details"):
        report([damaged])
    (damaged / DETAILS).write_bytes(whole)
    (damaged / HISTORY).write_text((damaged / HISTORY).read_text().replace("4.2", "4.3"))
    with pytest.raises(InputError, match="damaged"):
        report([damaged])
    assert main([str(tmp_path / "empty")]) == 1


def test_the_command_says_where_the_page_is(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    main([str(folder / "good"), f"out={tmp_path / 'p.html'}"])
    assert str(tmp_path / "p.html") in caplog.text
    assert (tmp_path / "p.html").is_file()
