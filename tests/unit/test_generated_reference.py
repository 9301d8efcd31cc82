"""The reference pages of commands, findings, metrics and variables are complete and up to date."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.support.variants import first

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str) -> Any:
    spec = spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    first(
        4,
        [
            "cli_reference",
            "doctor_reference",
            "metrics_reference",
            "variables_reference",
            "corpus_reference",
            "ticket_systems",
        ],
    ),
)
def test_generated_page_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A script may use another.
    monkeypatch.syspath_prepend(ROOT / "scripts")
    script = _script(name)
    assert script.DOCUMENT.read_text(encoding="utf-8") == script.document(), "run `make reference`"


def test_every_finding_of_the_doctor_says_what_to_do() -> None:
    findings = list(_script("doctor_reference").findings())
    assert len({finding.id for finding in findings}) > 60
    assert [finding.id for finding in findings if not finding.detail] == []
    assert [finding.id for finding in findings if not finding.remedy and not finding.is_note] == []


def test_no_explanation_of_a_finding_is_stale() -> None:
    script = _script("doctor_reference")
    assert script.COMPOSED.keys() <= {finding.id for finding in script.findings()}


def test_every_metric_is_listed() -> None:
    package = ROOT / "src" / "tocsin"
    operate = package / "operate"
    sources = [operate / "http.py", package / "core" / "runtime" / "telemetry.py"]
    written = {name for source in sources for name in re.findall(r'"(tocsin_[a-z_]+)"', source.read_text())}
    listed = set(re.findall(r"^\| `(tocsin_[a-z_]+)[{`]", _script("metrics_reference").document(), re.MULTILINE))
    assert {name.removesuffix("_total") for name in listed} == written


def test_every_command_has_a_section() -> None:
    sections = re.findall(r"^## (tocsin .+)$", _script("cli_reference").document(), re.MULTILINE)
    assert {"tocsin serve", "tocsin demo", "tocsin service install", "tocsin import opsgenie"} <= set(sections)
    assert sections == sorted(set(sections))
