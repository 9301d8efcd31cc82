"""Writes docs/reference/doctor.md, every finding of `tocsin doctor` with its remedy. Run by `make reference`.

The findings are read from the source: their ids, and the templates of their sentences.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tocsin"
OPERATE = PACKAGE / "operate"
DOCUMENT = ROOT / "docs" / "reference" / "doctor.md"

INTRODUCTION = """\
# Findings of the doctor

[`tocsin doctor`](../how-to/operate.md#ask-the-doctor), the System page and `GET /api/v1/system/doctor` report these
findings by their id; Home shows those of the quick checks. A note is no problem, and does not change the exit code of
`tocsin doctor`.

A finding `paging.…` is a problem of [the self-check](../how-to/operate.md#the-self-check).

This page is written by `make reference`.
"""

MODULES = (
    *sorted((OPERATE / "checks").glob("*.py")),
    OPERATE / "readiness.py",
    OPERATE / "doctor.py",
    PACKAGE / "cli" / "backup.py",
)

#: What a finding says whose sentence is composed when it is found.
COMPOSED = {
    "address.unreachable": "The public address does not answer.",
    "audit.broken_chain": "An entry of the audit log is missing, or was changed afterwards.",
    "configuration.variable": "A `TOCSIN_*` variable is unknown or invalid. Nothing else was checked.",
    "database.connections": "All nodes together may need more connections than `max_connections` allows.",
    "oncall.absent": "Someone on call is out of office without cover.",
    "oncall.calendar": "A calendar of a shift cannot be read, or names no user in Tocsin.",
    "oncall.departed": "A shift or override names a deactivated user.",
    "oncall.gap": "In the next 60 days, no one has a role that a shift assigns at other times.",
    "oncall.hidden": "A shift never takes effect: a higher layer always overrides it.",
    "oncall.no_shift": "No shift has a role, so the group's own order applies.",
    "oncall.twice": "One person has two roles at once.",
    "outbound.away": "The other system has not answered for 5 minutes; calls wait.",
    "outbound.dead": "Calls failed for good and are dead letters.",
    "outbound.look": "Tickets cannot be read.",
    "outbound.needs_you": "The other system rejects Tocsin: a secret expired, or a permission is missing.",
    "outbound.webhook": "Halo's webhook is silent or disabled.",
    "paging.unwatched": "No self-check has run for two minutes.",
    "workflow.limited": "A workflow reached its limit of actions.",
    "workflow.stuck": "A run of a workflow hangs.",
    "workflow.unreadable": "This version cannot read a workflow. Paging continues.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the page."""

    id: str
    is_note: bool
    detail: str
    remedy: str


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: a table for each area, which is the id's first part."""
    levels: dict[tuple[str, str, str], set[bool]] = {}
    for finding in findings():
        levels.setdefault((finding.id, finding.detail, finding.remedy), set()).add(finding.is_note)
    areas: dict[str, list[str]] = {}
    for (name, detail, remedy), is_note in sorted(levels.items()):
        level = "problem or note" if len(is_note) > 1 else "note" if True in is_note else "problem"
        areas.setdefault(name.partition(".")[0], []).append(f"| `{name}` | {level} | {detail} | {remedy} |\n")
    head = "| id | level | says | do |\n|---|---|---|---|\n"
    return INTRODUCTION + "".join(f"\n## {area}\n\n{head}{''.join(rows)}" for area, rows in areas.items())


def findings() -> Iterator[Finding]:
    """Every finding that the checks can report, in any order."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()
    from tocsin.operate.checks import integrations, people

    for module in MODULES:
        yield from _Module(module).findings("HealthFinding", "note")
    families: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("oncall", people.REMEDIES), ("outbound", integrations.REMEDIES), ("workflow", integrations.WORKFLOWS_REMEDIES),
    )  # fmt: skip
    for area, remedies in families:
        for kind, remedy in remedies.items():
            is_note = bool(getattr(kind, "is_note", False))
            yield Finding(f"{area}.{kind}", is_note, COMPOSED[f"{area}.{kind}"], str(remedy))


class _Module:
    """The source of one module."""

    def __init__(self, path: Path) -> None:
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self._templates = {**_all_templates(), **_templates(self._tree)}
        self._functions = {node.name: node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef)}

    def findings(self, *makers: str) -> Iterator[Finding]:
        """The findings that calls of `makers` with a constant id make."""
        for function in self._functions.values():
            # A detail that is assigned stands between the call before and this one.
            after = function.lineno
            for call in _calls(function, makers):
                if isinstance(call.args[0], ast.Constant):
                    name = str(call.args[0].value)
                    detail, *remedy = (_sentence(self._texts(value, function, after)) for value in call.args[1:])
                    is_note = ast.unparse(call.func) == "note"
                    yield Finding(name, is_note, COMPOSED.get(name, detail), "".join(remedy))
                after = call.lineno

    def _texts(self, value: ast.expr, function: ast.FunctionDef, after: int) -> list[str]:
        """The templates that the expression may be made of, with the parameters that are known."""
        match value:
            case ast.Call(func=ast.Name(id="sentence"), args=templates, keywords=keywords):
                known = {one.arg: one.value.value for one in keywords if isinstance(one.value, ast.Constant)}
                return [_fill(str(ast.literal_eval(templates[-1])), known)]
            case ast.Call(func=ast.Name(id=name), keywords=keywords) if name in self._templates:
                known = {one.arg: one.value.value for one in keywords if isinstance(one.value, ast.Constant)}
                return [_fill(self._templates[name], known)]
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                helper = self._functions[name]
                calls = (node for node in ast.walk(helper) if isinstance(node, ast.Call))
                return [text for call in calls for text in self._texts(call, helper, helper.lineno)]
            case ast.IfExp(body=first, orelse=second):
                return [*self._texts(first, function, after), *self._texts(second, function, after)]
            case ast.Name(id=name):
                lines = range(after, value.lineno)
                assigned = [
                    node for node in ast.walk(function) if isinstance(node, ast.Assign) and node.lineno in lines
                ]
                values = [node.value for node in assigned if ast.unparse(node.targets[0]) == name]
                return [text for each in values for text in self._texts(each, function, after)]
        return []


def _calls(function: ast.FunctionDef, makers: tuple[str, ...]) -> list[ast.Call]:
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node.func) in makers]
    return sorted(calls, key=lambda call: call.lineno)


@cache
def _all_templates() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found |= {
            name: text
            for name, text in _templates(ast.parse(path.read_text(encoding="utf-8"))).items()
            if name[0] != "_"
        }
    return found


def _templates(tree: ast.Module) -> dict[str, str]:
    """The template of each `NAME = ReasonType(…)` or `Text(…)`, the plural if it has one."""
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="ReasonType" | "Text"), args=[*_, ast.Constant(value=text)]),
            ):
                found[name] = str(text)
    return found


def _fill(template: str, known: Mapping[str | None, object]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(known.get(match[1], match[0])), template)


def _sentence(templates: list[str]) -> str:
    """The templates in a cell of a table: parameters in italics, and nothing else is markup."""
    text = " / ".join(dict.fromkeys(templates)).replace("|", "\\|").replace("*", "\\*").replace("<", "\\<")
    return re.sub(r"\{(\w+)\}", lambda match: f"*{match[1].replace('_', ' ')}*", text)


if __name__ == "__main__":
    main()
