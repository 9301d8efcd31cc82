"""The bill of materials: every locked package and browser part, valid by CycloneDX's own schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bring
import pytest
from builders import sbom

_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(problem) if problem else 0)
"""


def test_browser_parts_have_version_and_licence() -> None:
    parts = {str(part["name"]): part for part in sbom.browser_parts()}
    assert {"htmx.org", "@tabler/core"} <= set(parts)
    assert parts["@tabler/core"]["purl"] == f"pkg:npm/%40tabler/core@{parts['@tabler/core']['version']}"
    assert all(part["licenses"] for part in parts.values())


@pytest.mark.long
def test_bill_of_materials_is_valid_and_complete(artefact: Callable[[str], list[Path]]) -> None:
    text = artefact("sbom")[0].read_text()
    done = subprocess.run(
        [sys.executable, "-c", _VALIDATE], input=text, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(bring.dist_tools(bring.uv()))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bom = json.loads(text)
    names = {_normal(component["name"]) for component in bom["components"]}
    locked = re.findall(r"^([A-Za-z0-9._-]+)==[^;\n]*$", (bring.REQUIREMENTS / "runtime.txt").read_text(), re.MULTILINE)
    assert {_normal(name) for name in locked} - names == set()
    assert "pip" not in names
    assert bom["metadata"]["component"]["name"] == "tocsin"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())
