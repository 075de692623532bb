# SPDX-License-Identifier: Apache-2.0
"""The live table as people see it: JupyterLab in a real browser, where rows of the feed appear."""

from __future__ import annotations

import os
import re
import sys
import time

import nbformat
import pytest

from tests.conftest import ROOT
from tests.notebooks.lab import Lab, browser
from tests.tools import need

NOTEBOOK = "notebooks/02_live_table.ipynb"


def known_trades(count: int) -> set[tuple[str, str, str]]:
    """Symbol, price and size of the first trades, made by the notebook's own code."""
    sys.path.insert(0, str(ROOT / "docs/examples"))
    try:
        import feed
        import numpy as np
    finally:
        sys.path.pop(0)
    cells = nbformat.read(ROOT / NOTEBOOK, as_version=4).cells
    (walk,) = [cell.source for cell in cells if "def walk" in cell.source]
    names = {"np": np, "feed": feed}
    exec(walk, names)
    step = 2000 // 50  # of feed.start(per_second=2000)
    known = set()
    for first in range(0, count, step):
        made = np.frombuffer(names["walk"](feed.trades(first, step)), feed.TRADE)
        for trade in made:
            symbol, price, size = trade["symbol"].decode(), trade["price"] / 1e4, trade["size"]
            known.add((symbol, f"{price:.2f}", str(size)))
    return known


@pytest.fixture
def lab(tmp_path):
    need({"chromium": "chromium"})
    server = Lab(tmp_path)
    yield server
    server.close()


@pytest.mark.timeout(180)
def test_rows_of_the_feed_appear_in_the_table(lab):
    with browser(lab.url()) as seen:
        seen.open(NOTEBOOK, lab.token)
        seen.run_all()
        page = seen.page
        viewers = page.locator("perspective-viewer")
        table = viewers.nth(0).locator("regular-table tbody tr")
        table.nth(0).locator("td").nth(3).wait_for()
        # Both widgets show something: the second one is where Perspective's own fails.
        viewers.nth(1).wait_for()

        known = known_trades(60_000)
        first = other_rows(page, table, [])
        assert set(first) <= known
        assert set(other_rows(page, table, first)) <= known

        chart = viewers.nth(1)
        chart.scroll_into_view_if_needed()
        chart.locator("canvas").first.wait_for(state="attached")
        image = page.locator(".jp-OutputArea-output img")
        image.wait_for(state="attached")
        if path := os.environ.get("ZCRX_ARROW_SCREENSHOT"):
            photograph(page, path)
        assert not seen.outside, "it wants something that is not on this machine"
        assert not [each for each in seen.complaints if "registry" in each or "view for" in each]


def other_rows(page, table, before) -> list[tuple[str, str, str]]:
    """Wait for rows that were not there before."""
    deadline = time.monotonic() + 60
    while (now := shown(table)) == before or not now:
        assert time.monotonic() < deadline, "the table stands still"
        page.wait_for_timeout(100)  # and not time.sleep: the page asks this thread for files
    return now


def photograph(page, path) -> None:
    """Take the picture that the documentation shows: ZCRX_ARROW_SCREENSHOT=docs/images/notebook.png."""
    page.evaluate(
        "() => { void window.jupyterapp.commands.execute('application:toggle-left-area'); }"
    )
    page.locator("perspective-viewer").nth(0).evaluate("element => element.scrollIntoView()")
    page.wait_for_timeout(3000)
    page.screenshot(path=path)


def shown(table) -> list[tuple[str, str, str]]:
    """Give symbol, price and size of the rows that are in sight; none if they are being redrawn."""
    texts = table.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))"
    )
    rows = [tuple(cell.strip() for cell in row[1:4]) for row in texts if len(row) >= 4]
    return [(s, p, n) for s, p, n in rows if re.fullmatch(r"\d+\.\d\d", p) and s and n]
