"""Reports of a run and of a comparison in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest

from clep.report import report
from tests.view.browser_steps import until
from tests.view.report.made_run import made_run

pytestmark = [pytest.mark.browser, pytest.mark.waits]
NewPage = Callable[..., Any]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [made_run(folder / name, noise, pairs=40) for name, noise in (("good", 0.3), ("bad", 1.5))]
    made = {"run": report(runs[:1]), "comparison": report(runs, out=folder / "comparison.html")}
    return {name: path.as_uri() for name, path in made.items()}


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_a_page_fits_and_fetches_nothing(
    pages: dict[str, str], name: str, scheme: str, width: int, new_page: NewPage
) -> None:
    page = new_page(width=width, color_scheme=scheme)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(pages[name])
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(value => value < 80)")
    assert dark == (scheme == "dark")
    assert [url for url in fetched if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("run", 1280, "light"), ("run", 400, "dark"), ("comparison", 400, "light")]
)
def test_axe_finds_nothing_serious(
    pages: dict[str, str], name: str, scheme: str, width: int, new_page: NewPage, axe: Callable[[Any], list[str]]
) -> None:
    page = new_page(width=width, color_scheme=scheme)
    page.goto(pages[name])
    assert axe(page) == []


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_the_keyboard_reaches_links_and_tables(pages: dict[str, str], name: str, new_page: NewPage) -> None:
    page = new_page(width=400)
    page.goto(pages[name])
    wanted = page.evaluate("document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length")
    for _ in range(wanted):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.dataset.reached = 1")
    missed = page.evaluate(
        """[...document.querySelectorAll('a[href], summary, [tabindex="0"]')]
             .filter((one) => one.checkVisibility() && !one.dataset.reached).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert missed == []
    assert wanted > 5


def test_wide_tables_scroll_by_the_keyboard(pages: dict[str, str], new_page: NewPage) -> None:
    page = new_page(width=400)
    page.goto(pages["run"])
    focused = page.evaluate(
        """() => { document.querySelectorAll('details').forEach((one) => { one.open = true });
             const table = [...document.querySelectorAll('.scroll')]
             .find((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth);
             table.focus(); return document.activeElement === table }"""
    )
    assert focused
    page.keyboard.press("ArrowRight")
    until(page, "document.activeElement.scrollLeft > 0")


def test_links_of_the_contents_lead_to_their_sections(pages: dict[str, str], new_page: NewPage) -> None:
    page = new_page()
    page.goto(pages["run"])
    link = page.locator("nav a").last
    target = link.get_attribute("href")
    link.focus()
    page.keyboard.press("Enter")
    until(page, "target => location.hash === target", target)
    until(page, "target => document.querySelector(target).getBoundingClientRect().top < innerHeight", target)
