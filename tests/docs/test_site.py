"""The documentation site: everything is in its navigation, links are rewritten right, and the whole of it builds."""

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WEBSITE = "https://example.org/clep"
pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'clep[docs]'")


def pages_of(nav: Any) -> Iterator[str]:
    """Yield the pages of a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(part)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nav() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return list(pages_of(yaml.safe_load(text)["nav"]))


def test_all_pages_and_notebooks_are_in_the_navigation(nav: list[str], hooks: ModuleType) -> None:
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(nav) == docs | notebooks | set(hooks.COPIED)
    assert len(nav) == len(set(nav))


class Pages:
    """The files of a site, by path."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def get_file_from_path(self, name: str) -> str | None:
        return name if name in self.names else None


@pytest.mark.parametrize(
    ("target", "folder", "page", "link"),
    [
        ("docs/video.md", "", "index.md", "video.md"),
        ("docs/images/report.png", "", "index.md", "images/report.png"),
        ("notebooks/01_a.ipynb", "", "index.md", "notebooks/01_a.md"),
        ("../notebooks/01_a.ipynb", "docs", "video.md", "notebooks/01_a.md"),
        ("../README.md", "docs", "video.md", "index.md"),
        ("../video.md", "docs/benchmarks", "benchmarks/egomcq.md", "../video.md"),
        ("01_a.ipynb", "notebooks", "notebooks/README.md", "01_a.md"),
        ("benchmarks", "", "index.md", f"{WEBSITE}/tree/main/benchmarks"),
        ("../pyproject.toml", "docs", "video.md", f"{WEBSITE}/blob/main/pyproject.toml"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(
    hooks: ModuleType, target: str, folder: str, page: str, link: str
) -> None:
    files = Pages("index.md", "video.md", "images/report.png", "notebooks/01_a.md", "benchmarks/egomcq.md")
    assert hooks.site_link(target, folder, page, files, WEBSITE) == link


def test_a_link_to_nothing_is_a_warning(hooks: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        hooks.site_link("../nothing.md", "docs", "video.md", Pages("video.md"), WEBSITE)
    assert "video.md: link to ../nothing.md, which does not exist" in caplog.text


class _Page:
    def __init__(self, name: str) -> None:
        self.file, self.meta = type("file", (), {"src_uri": name}), {}


def test_links_in_code_stay(hooks: ModuleType) -> None:
    text = (
        "[a](../README.md#install) `[a](../README.md)`\n\n```python\nrows[0](../README.md)\n```\n[b](https://x) [c](#d)"
    )
    config = type("config", (), {"extra": {"source": WEBSITE}})
    found = hooks.on_page_markdown(text, _Page("video.md"), config, Pages("video.md", "index.md"))
    assert found == text.replace("[a](../README.md#install)", "[a](index.md#install)")


def test_notebooks_become_pages_with_their_outputs(hooks: ModuleType, tmp_path: Path) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    table = "<div>\n<style scoped>\n.x {}\n</style>\n<table><tr><td>7</td></tr></table>\n\n</div>"
    outputs = [
        {"output_type": "stream", "text": ["one\n", "two\n"]},
        {"output_type": "display_data", "data": {"image/png": pixel, "text/plain": ["<Figure>"]}},
        {"output_type": "execute_result", "data": {"text/html": [table], "text/plain": ["7"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "[first](#1.-The-first-part)\n", "\n## 1. The first part"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": outputs},
    ]
    (tmp_path / "01_a.ipynb").write_text(json.dumps({"cells": cells}))
    found = dict(hooks.notebook_pages(tmp_path / "01_a.ipynb", WEBSITE))
    assert found["01_a_1_1.png"].startswith(b"\x89PNG")
    page = found["01_a.md"]
    assert "[first](#1-the-first-part)" in page
    assert "```python\n1 + 1\n```" in page
    assert "```text\none\ntwo\n```" in page
    assert "](01_a_1_1.png)" in page
    assert "<table><tr><td>7</td></tr></table>" in page
    assert "<style" not in page
    assert "Figure" not in page


class Resources(HTMLParser):
    """Addresses that a browser fetches by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        fetched = tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload", "prefetch")
        self.found += [given["href"] or ""] if fetched else []
        self.found += [given["src"] or ""] if "src" in given else []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing_from_other_hosts(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        reader = Resources()
        reader.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in reader.found if re.match(r"(https?:)?//", address)], page
    reference = (tmp_path / "site/api/losses/index.html").read_text(encoding="utf-8")
    assert "ClipLoss" in reference
    assert "&gt;&gt;&gt; " in reference
    notebook = tmp_path / "site/notebooks/01_features_tutorial/index.html"
    assert len(re.findall(r"<img [^>]*01_features_tutorial_\d+_\d+\.png", notebook.read_text(encoding="utf-8"))) >= 5
