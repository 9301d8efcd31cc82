"""Lighthouse finds the most opened pages accessible and well behaved.

The score for performance depends on how calm the machine is, so a benchmark measures it (`make bench ONLY=pages`). What
decides it and no load changes is asserted elsewhere: how much a page loads, and that nothing on it jumps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import lighthouse
from tests.browser import desk as desks
from tests.browser.running import serve

pytestmark = pytest.mark.browser

#: The score that is promised for each category.
PROMISED = 0.95


@pytest.fixture
def seen(browser: object, database: str, tmp_path: Path) -> Iterator[dict[str, lighthouse.Seen]]:
    missing = lighthouse.is_missing()
    if missing:
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
    desk = desks.set_up()
    with serve(tmp_path, database) as running:
        numbers = desks.receive_an_evening(running.url, desk)
        paths = ("/", "/alerts/", f"/alerts/{numbers['vpn']}/", "/inbound-log/")
        yield lighthouse.look(running.url, paths, desks.session(running.url, "alice"), lighthouse.CATEGORIES[1:])


def test_the_most_opened_pages_are_accessible_and_well_behaved(seen: dict[str, lighthouse.Seen]) -> None:
    assert len(seen) == 4
    for path, page in seen.items():
        wrong = {name: audit.shown for name, audit in page.audits.items() if audit.score == 0}
        assert dict(page.scores).keys() == {"accessibility", "best-practices"}
        assert min(page.scores.values()) >= PROMISED, (path, wrong)
