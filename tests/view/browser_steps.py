"""Steps of browser tests."""

import time
from typing import Any


def until(page: Any, expression: str, arg: Any = None, timeout_s: float = 20.0) -> None:
    """Wait until an expression (or a function of `arg`) is true on a page.

    Own code instead of `page.wait_for_function`, which a page's Content-Security-Policy forbids to evaluate.
    """
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"not true after {timeout_s} s: {expression}"
        time.sleep(0.03)
