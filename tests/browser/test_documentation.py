"""The documentation as a site, opened from disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import tocsin

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_site_opened_from_disk_is_searched(browser: Browser) -> None:
    done = subprocess.run([sys.executable, "scripts/docs_site.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    address = done.stdout.splitlines()[-1].rpartition(" ")[2]
    page = browser.new_page()
    page.goto(address)
    expect(page.get_by_role("banner").get_by_text(f"Tocsin {tocsin.__version__}")).to_be_visible()
    page.keyboard.press("/")
    box = page.get_by_role("combobox").or_(page.get_by_placeholder("Type to start searching")).first
    box.fill("replace the secret key")
    found = page.locator("a[href*='backup-and-restore.html?h='][href$='#replace-the-secret-key']").first
    expect(found).to_be_visible()
    found.click()
    page.wait_for_url("**/backup-and-restore.html**#replace-the-secret-key")
    page.close()
