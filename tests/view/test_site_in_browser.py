"""The documentation site, built whole, in a real browser."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.view.browser_steps import until

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'clep[docs]'")
NewPage = Callable[..., Any]
PAGES = {"": "clep", "own_data/": "Your own data", "gallery/": "Gallery", "api/losses/": "Losses"}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the site, served as a web server would; `browser` is here to skip before the site is built."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")])
def test_pages_fit_and_axe_finds_nothing_serious(
    site: str,
    width: int,
    scheme: str,
    new_page: NewPage,
    axe: Callable[[Any], list[str]],
) -> None:
    page = new_page(width=width, color_scheme=scheme)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    for name, title in PAGES.items():
        page.goto(site + name)
        assert page.locator("h1").first.inner_text().startswith(title)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every((value) => value < 80)"
        )
        assert dark == (scheme == "dark"), name
        assert page.evaluate("[...document.images].every((one) => !one.complete || one.naturalWidth > 0)"), name
        until(
            page,
            """[...document.querySelectorAll('.md-typeset__scrollwrap')]
                 .every((one) => (one.tabIndex === 0) === (one.scrollWidth > one.clientWidth))""",
        )
        assert axe(page) == [], name
    assert [url for url in fetched if not url.startswith((site, "data:"))] == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_search_box_leads_to_a_page(site: str, width: int, new_page: NewPage) -> None:
    page = new_page(width=width)
    page.goto(site)
    page.keyboard.press("/")
    until(page, "document.activeElement.matches('.md-search__input')")
    page.keyboard.type("ClipLoss")
    page.locator(".md-search-result__link").first.wait_for()
    link = page.locator(".md-search-result__link[href*='losses']").first
    link.click()
    until(page, "location.pathname.endsWith('/api/losses/')")
    assert page.locator("h2, h3", has_text="ClipLoss").first.is_visible()


def test_the_tabs_and_the_switch_of_colours(site: str, new_page: NewPage) -> None:
    page = new_page(color_scheme="light")
    page.goto(site)
    page.locator(".md-tabs__link", has_text="Gallery").click()
    until(page, "location.pathname.endsWith('/gallery/')")
    page.locator("label[title=Dark]").click()
    until(page, "document.body.dataset.mdColorScheme === 'slate'")
    page.goto(f"{site}own_data/")
    until(page, "document.body.dataset.mdColorScheme === 'slate'")
