"""The commands of the pages about installation, as a reader copies them."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "get-started" / "install"


def commands(page: str, heading: str, version: str, new_version: str = "") -> list[list[str]]:
    """The blocks of shell commands under a heading, each as its commands, for a version and the next one."""
    text = (PAGES / f"{page}.md").read_text()
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"{page}.md has no heading {heading}"
    blocks = re.findall(r"^```sh\n(.*?)^```", match[1], re.MULTILINE | re.DOTALL)
    blocks = [block.replace("NEW_VERSION", new_version).replace("OLD_VERSION", version) for block in blocks]
    return [_joined(block.replace("VERSION", version)) for block in blocks]


def _joined(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line]
