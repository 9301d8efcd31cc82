"""docs/operate.md names every finding, self-check problem and metric, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tocsin.operate
from tocsin.operate.checks import on_call, outbound, workflows

HOME = Path(tocsin.operate.__path__[0])
TEXT = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()


def _first_words(module: Path, *callees: str) -> Iterator[str]:
    """The constant first argument of each call of these; of an f-string what stands before its first brace."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in callees):
            continue
        match node.args[0] if node.args else None:
            case ast.Constant(value=str(word)) | ast.JoinedStr(values=[ast.Constant(value=str(word)), *_]):
                yield word


def _findings() -> set[str]:
    modules = [
        *(HOME / "checks").glob("*.py"),
        HOME / "disk_space.py",
        HOME / "doctor.py",
        HOME.parent / "cli" / "doctor.py",
    ]
    whole = {
        word for module in modules for word in _first_words(module, "HealthFinding", "note") if not word.endswith(".")
    }
    weaknesses = {f"database.{word}" for word in _first_words(HOME / "durability.py", "DurabilityRisk")}
    of_kinds = {f"oncall.{kind}" for kind in on_call.REMEDIES} | {f"outbound.{kind}" for kind in outbound.REMEDIES}
    of_kinds |= {f"workflow.{kind}" for kind in workflows.REMEDIES}
    return whole | weaknesses | of_kinds


def test_every_finding_of_the_doctor_is_explained() -> None:
    table = TEXT.partition("## Ask the doctor")[2].partition("## Metrics")[0]
    explained = set(re.findall(r"`([a-z]+\.[a-z_]+)`", "\n".join(row.split("|")[1] for row in _rows(table))))
    assert len(explained) > 40
    assert explained == _findings()


def test_every_problem_of_the_self_check_is_explained() -> None:
    table = TEXT.partition("### The self-check")[2].partition("### The heartbeat")[0]
    explained = {word.partition(":")[0] for word in re.findall(r"^\| `([a-z_]+(?::NAME)?)` \|", table, re.MULTILINE)}
    assert explained == {word.rstrip(":") for word in _first_words(HOME / "self_check" / "rules.py", "DetectedProblem")}


def test_every_metric_is_explained() -> None:
    named = {name.removesuffix("_total") for name in re.findall(r"`(tocsin_[a-z_]+)[{`]", TEXT)}
    sources = [
        HOME / "http" / "gauges.py",
        HOME / "http" / "metrics.py",
        HOME.parent / "core" / "runtime" / "metrics.py",
    ]
    written = {name for source in sources for name in re.findall(r'"(tocsin_[a-z_]+)"', source.read_text())}
    written |= {f"tocsin_pool_{name}" for name in ("connections", "idle", "waiting")}
    assert named == written


def _rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("| `")]
