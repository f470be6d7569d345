"""The search page in a real browser."""

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from clep.view.search import SearchEngine, create_app
from clep.view.search.server import listen
from tests.view.browser_steps import until
from tests.view.search.small_world import ODD

pytestmark = [pytest.mark.browser, pytest.mark.waits]
SCREENSHOTS = Path(__file__).with_name("screenshots")
NewPage = Callable[..., Any]


@pytest.fixture(scope="session")
def url(engine: SearchEngine) -> Iterator[str]:
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(
            uvicorn.Config(create_app(engine), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


def type_and_enter(page: Any, text: str) -> None:
    page.fill("#sentences input", text)
    page.keyboard.press("Enter")


def first_hit(page: Any, containing: str) -> Any:
    hit = page.locator(".hit").first
    hit.filter(has_text=containing).wait_for()
    return hit


def wait_for_second(page: Any, second: float, within: float = 0.3) -> None:
    until(
        page,
        "([second, within]) => { const p = document.querySelector('#player');"
        " return p.readyState >= 2 && !p.seeking"
        "   && p.currentTime >= second - 0.05 && p.currentTime < second + within }",
        arg=[second, within],
    )


def test_type_see_play_seek(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(url)
    assert page.evaluate("document.activeElement.matches('#sentences input')")
    type_and_enter(page, "opens the fridge")
    hit = first_hit(page, "opens the fridge")
    assert hit.get_attribute("aria-current") == "true"
    assert "kitchen" in hit.inner_text()
    until(page, "document.querySelector('.hit img').naturalWidth === 576")
    wait_for_second(page, 6.0)
    assert "moments, best first" in page.inner_text("#status")

    page.click("#replay")
    until(page, "!document.querySelector('#player').paused")
    until(page, "document.querySelector('#player').currentTime > 6.2")
    page.evaluate("document.querySelector('#player').pause()")

    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 40)  # a quarter of 12 seconds
    wait_for_second(page, 3.0, 2.0)
    page.locator("#curve").focus()
    page.keyboard.press("Home")
    wait_for_second(page, 0.0, 2.0)
    assert page.locator("#curve").get_attribute("aria-valuetext").startswith("0:0")

    page.keyboard.press("Tab")
    page.locator("#narrations button", has_text="washes a cup").click()
    wait_for_second(page, 3.0, 2.0)


def test_seeking_takes_less_than_half_a_second(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}?q=opens+the+fridge")
    wait_for_second(page, 6.0)
    took = page.evaluate(
        """async () => {
          const player = document.querySelector('#player'), began = performance.now();
          const arrived = new Promise((done) => player.addEventListener('seeked', done, {once: true}));
          player.currentTime = 10.5;
          await arrived;
          return performance.now() - began;
        }"""
    )
    assert took < 500


def test_keys_walk_through_the_moments(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}?q=opens+the+fridge")
    first_hit(page, "opens the fridge")
    page.keyboard.press("ArrowDown")
    page.locator(".hit").nth(1).and_(page.locator("[aria-current=true]")).wait_for()
    second = page.inner_text("#title")
    page.keyboard.press("ArrowUp")
    page.locator(".hit").nth(0).and_(page.locator("[aria-current=true]")).wait_for()
    assert page.inner_text("#title") != second
    page.locator(".hit").nth(2).focus()
    page.keyboard.press("Enter")
    page.locator(".hit").nth(2).and_(page.locator("[aria-current=true]")).wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.matches('#sentences input')")


def test_more_like_this_filters_links_and_back(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(url)
    type_and_enter(page, "opens the fridge")
    first_hit(page, "opens the fridge")
    page.click("#more")
    first_hit(page, "closes the fridge")  # the other moment with a fridge
    assert "Like kitchen at 0:06" in page.inner_text("#likes")

    page.goto(url)
    type_and_enter(page, "washes a cup")
    first_hit(page, "washes a cup")
    page.click("#only")
    until(page, "[...document.querySelectorAll('.hit')].every((hit) => hit.innerText.includes('kitchen'))")
    page.fill("#video", "")
    page.select_option("#split", "val")
    until(page, "[...document.querySelectorAll('.hit')].every((hit) => hit.innerText.includes('old'))")
    page.locator(".hit").nth(1).click()
    page.locator(".hit").nth(1).and_(page.locator("[aria-current=true]")).wait_for()
    chosen = page.inner_text("#title")

    again = new_page()  # a link holds sentences, filter and the selected moment
    again.goto(page.evaluate("location.href"))
    again.locator(".hit").nth(1).and_(again.locator("[aria-current=true]")).wait_for()
    assert again.inner_text("#title") == chosen
    assert again.input_value("#sentences input") == "washes a cup"
    assert again.input_value("#split") == "val"
    assert "washes a cup" in again.title()

    page.go_back()
    page.go_back()
    until(page, "document.querySelector('#split').value === ''")


@pytest.mark.parametrize("entered", [False, True])
def test_what_is_typed_while_the_page_loads_stays(url: str, new_page: NewPage, entered: bool) -> None:
    page, held = new_page(), []
    page.route("**/api/about*", lambda route: held.append(route))
    page.goto(url)
    page.fill("#sentences input", "washes a cup")
    if entered:
        page.keyboard.press("Enter")
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    until(page, "document.querySelector('#about').innerText.includes('moments')")
    assert page.input_value("#sentences input") == "washes a cup"
    if not entered:
        page.keyboard.press("Enter")
    first_hit(page, "washes a cup")


def test_several_sentences_and_swapped_words(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}?q=opens+the+fridge")
    first_hit(page, "opens the fridge")
    page.locator("#words .word", has_text="fridge").click()
    page.keyboard.type("door")  # the word was selected
    assert page.input_value("#swap") == "opens the door"
    until(page, "document.querySelector('#swapped').innerText.includes('→')")
    before, after = page.inner_text("#swapped").split("→")
    assert float(before) > float(after.split()[0])

    page.click("#add")
    page.keyboard.type("closes the fridge")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.hit:first-child .bar, .hit .bars .bar').length >= 2")
    until(page, "document.querySelectorAll('#curve path').length === 2")
    assert page.locator(".hit").first.locator(".bar").count() == 2
    page.get_by_label("Remove sentence 2").click()
    until(page, "document.querySelectorAll('#curve path').length === 1")


def test_empty_long_and_odd_queries(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(url)
    page.locator("#examples button").first.wait_for()
    type_and_enter(page, "   ")
    until(page, "document.querySelector('#status').innerText.includes('Type what you look for')")
    assert page.locator(".hit").count() == 0
    for text in (
        "word " * 100,
        "打开冰箱",
        "يفتح الثلاجة",
        "🧊",
        "<img src=x onerror=alert(1)>",
        "a\u0300" * 40,
        "50% & ?q=#",
    ):
        type_and_enter(page, text)
        until(
            page,
            "(text) => new URLSearchParams(location.search).get('q') === text.trim()"
            " && document.querySelectorAll('.hit').length > 3",
            arg=text,
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("main img[src=x]").count() == 0


def test_an_id_with_markup_stays_text_and_its_video_plays(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(url)
    type_and_enter(page, "closes the fridge")
    assert ODD in first_hit(page, "closes the fridge").inner_text()
    wait_for_second(page, 4.0)
    assert page.inner_text("#title").startswith(ODD)
    assert page.locator("#title b").count() == 0


def test_videos_that_are_missing_or_not_played_have_a_reason(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}?q=reads+a+book")
    assert "No picture: no video file of this id" in first_hit(page, "reads a book").inner_text()
    until(page, "document.querySelector('#note').innerText.includes('No video: no video file')")
    assert page.locator("#player").is_hidden()
    page.locator("#curve path").wait_for(state="attached")

    page.goto(f"{url}?q=rides+a+bicycle")
    first_hit(page, "rides a bicycle")
    until(page, "document.querySelector('#note').innerText.includes('do not play .avi')")
    wait_for_second(page, 2.0)  # of the copy, which begins 2 seconds before the moment
    page.locator("#curve").focus()
    page.keyboard.press("Home")
    until(page, "document.querySelector('#player').getAttribute('src').endsWith('from=0')")
    wait_for_second(page, 0.0, 2.0)


def test_wrong_links_and_an_ended_server_are_reported(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}?q=a+cup&video=nowhere")
    until(page, "document.querySelector('#status').innerText.includes(\"no video 'nowhere'\")")
    page.goto(f"{url}?q=a+cup&at=nowhere@1-2&like=nonsense&split=nonsense")
    until(page, "document.querySelector('#status').innerText.includes(\"no video 'nowhere'\")")
    page.goto(url)
    page.locator("#examples button").first.wait_for()
    page.route("**/api/search*", lambda route: route.abort())
    type_and_enter(page, "a cup")
    until(page, "document.querySelector('#status').innerText.includes('start clep-search again')")
    # Chromium writes each failed request to the console; nothing else may be there.
    assert all(text.startswith("Failed to load resource") for text in new_page.faults)
    new_page.faults.clear()


def test_nothing_serious_for_axe_and_nothing_wider_than_the_window(
    url: str, new_page: NewPage, axe: Callable[[Any], list[str]]
) -> None:
    page = new_page()
    page.goto(url)
    page.locator("#examples button").first.wait_for()
    assert axe(page) == []
    type_and_enter(page, "opens the fridge")
    first_hit(page, "opens the fridge")
    page.locator("#words .word b").first.wait_for()
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe(page) == [], f"{width} pixels, {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_looks_as_it_did(url: str, new_page: NewPage, width: int, scheme: str) -> None:
    """Loosely: fonts differ between machines. To renew the pictures, delete those in `screenshots/` and run this."""
    page = new_page(width=width, height=900, color_scheme=scheme)
    page.goto(f"{url}?q=opens+the+fridge")
    first_hit(page, "opens the fridge")
    page.locator("#words .word b").first.wait_for()
    wait_for_second(page, 6.0)
    until(page, "document.querySelector('.hit img').complete")
    page.evaluate("document.activeElement.blur()")
    small = Image.open(BytesIO(page.screenshot())).convert("L").resize((width // 16, 56), Image.Resampling.BOX)
    path = SCREENSHOTS / f"{width}-{scheme}.png"
    if not path.exists():
        SCREENSHOTS.mkdir(exist_ok=True)
        small.save(path, optimize=True)
    expected = np.asarray(Image.open(path)).astype(float)
    difference = np.abs(np.asarray(small).astype(float) - expected)
    assert difference.shape == expected.shape
    assert difference.mean() < 10
    assert np.asarray(small).std() > 15  # not a blank page
