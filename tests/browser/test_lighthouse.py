"""Lighthouse finds the main pages accessible and well behaved.

The score for performance depends on how calm the machine is, so a benchmark measures it (`make bench ONLY=pages`). What
decides it and no load changes is asserted elsewhere: how much a page loads, and that nothing on it jumps.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import lighthouse, pages
from tests.support import service_desk
from tests.support.server_process import serve

pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_main_pages_are_accessible_and_well_behaved(browser: object, database: str, tmp_path: Path) -> None:
    missing = lighthouse.is_missing()
    if missing:
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
    desk = service_desk.set_up()
    with serve(tmp_path, database) as running:
        alert = service_desk.receive_an_evening(running.url, desk)["vpn"]
        session = service_desk.session(running.url, "alice")
        figures, promises = pages.looked_at(running.url, alert, session, lighthouse.CATEGORIES[1:])
    assert len(promises) == len(pages.PATHS)
    assert {name.split(" ", 1)[1] for name in figures} == {"accessibility", "best-practices"}
    assert all(promises.values()), promises
