"""A Python client that openapi-python-client generates from a running node runs the program of the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, ask

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "how-to" / "api-from-python.md"
EXAMPLE = ROOT / "examples" / "tocsin.yaml"


def run(*command: object, cwd: Path, **environ: str) -> str:
    """Runs a command to its end, and returns what it printed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TOCSIN_", "DJANGO_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**own, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_generated_client_runs_the_program_of_the_guide(tocsin: Installation, tmp_path: Path) -> None:
    tocsin.apply(EXAMPLE.read_text().partition("support_hours:")[0])
    tocsin.serve()
    clients = run(sys.executable, ROOT / "scripts" / "clients.py", cwd=ROOT).splitlines()[-1]
    source = f"{tocsin.url}/api/v1/openapi.json"
    assert ask("GET", source).status == 200  # the generator waits for five seconds only
    command = "from openapi_python_client.cli import app; app()"
    generated = run(
        sys.executable, "-c", command, "generate", "--url", source, "--meta", "none", "--output-path", "tocsin_client",
        "--fail-on-warning", cwd=tmp_path, PYTHONPATH=clients, PATH=f"{clients}/bin:{os.environ['PATH']}",
    )  # fmt: skip
    assert "warning" not in generated.lower()

    program = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    (tmp_path / "program.py").write_text(program)
    # The generator repeats the annotation of a variable that it assigns in several branches; `client.py` is its own.
    options = ["--strict", "--disable-error-code=no-redef", "--config-file=", "--cache-dir=cache"]
    made = ["program.py", "tocsin_client/api", "tocsin_client/models"]
    run(sys.executable, "-m", "mypy", *options, "--follow-imports=silent", *made, cwd=tmp_path)

    _open_alerts(tocsin, 101)
    address = {"TOCSIN_URL": tocsin.url, "TOCSIN_TOKEN": tocsin.token}
    printed = run(sys.executable, "program.py", cwd=tmp_path, **address).splitlines()

    assert re.fullmatch(r"Alert \d+ is open\.", printed[0])
    assert any(line.endswith("[alert.created_by]") for line in printed), printed
    assert len([line for line in printed if re.match(r"\d+ ", line)]) == 102
    assert printed[-1].startswith("steps[1].notify.users[0]: ")
    assert tocsin.api("schedules/Service%20Desk%2024x7")["shifts"][0]["name"] == "Weeks"
    assert tocsin.api("escalation-policies/Standard")["end_after"] == "10m"


def _open_alerts(tocsin: Installation, count: int) -> None:
    body: dict[str, Any] = {"subject": "Disk full", "priority": "critical"}
    for _ in range(count):
        tocsin.api("alerts", body)
