"""Every benchmark stays runnable: each is run once, for a second, and must print its figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: All but `pages`, whose measuring is a browser test (test_lighthouse).
SCRIPTS = sorted(
    {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}
    - {"pages"}
)

pytestmark = pytest.mark.long


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_and_prints_its_figures(script: str) -> None:
    if shutil.which("wrk") is None and "wrk" in (ROOT / "benchmarks" / f"{script}.py").read_text(encoding="utf-8"):
        assert not os.environ.get("CI"), "wrk is missing, and CI measures with it"
        pytest.skip("wrk is not installed: apt-get install wrk")
    environment = {**os.environ, "TOCSIN_TEST_BENCH_SECONDS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[0])
    assert figures["benchmark"] == script
    assert figures["promises"]
