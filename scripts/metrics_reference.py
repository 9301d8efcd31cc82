"""Writes docs/reference/metrics.md, every metric of `/metrics`. Run by `make reference`.

The metrics are read from the source, because the gauges exist only with a database.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tocsin"
DOCUMENT = ROOT / "docs" / "reference" / "metrics.md"

INTRODUCTION = """\
# Metrics

`GET /metrics` answers in Prometheus' format. [How to scrape it](../how-to/metrics-and-alerts.md), with
[alert rules](alert-rules.md) and a dashboard.

This page is written by `make reference`.
"""

#: The kind of a metric by the function that makes it, and the suffix of its name.
KINDS = {
    "Counter": ("counter", "_total"),
    "Histogram": ("histogram", ""),
    "GaugeMetricFamily": ("gauge", ""),
    "_gauge": ("gauge", ""),
    "_labelled": ("gauge", ""),
}


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """One metric as Prometheus stores it; `name` without the `_bucket`, `_sum` and `_count` of a histogram."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]
    #: Whether each node has its own; otherwise all nodes report the same, from the database.
    is_of_node: bool


def document() -> str:
    """The whole page: a table of what each node counts, and one of what the database has."""
    found = metrics()
    return (
        INTRODUCTION
        + _section(
            "Of each node",
            "Sum them over the nodes. `process_*` are the usual metrics of a process.",
            (metric for metric in found if metric.is_of_node),
        )
        + _section(
            "Of the database", "They are the same on every node.", (metric for metric in found if not metric.is_of_node)
        )
    )


def metrics() -> list[MetricInfo]:
    """Every metric, in the order of the source."""
    return [*_read(PACKAGE / "core" / "runtime" / "telemetry.py"), *_read(PACKAGE / "operate" / "http.py")]


def _section(heading: str, text: str, found: Iterable[MetricInfo]) -> str:
    head = "| metric | kind | meaning |\n|---|---|---|\n"
    return f"\n## {heading}\n\n{text}\n\n{head}{''.join(map(_row, found))}"


def _row(metric: MetricInfo) -> str:
    labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind} | {metric.meaning} |\n"


def _read(module: Path) -> Iterator[MetricInfo]:
    """One metric for each name that a call in the module makes one of. What takes a connection is of the database."""
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    of_database = {
        id(call)
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "connection"
        for call in ast.walk(node)
    }
    names = set()
    texts = {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in KINDS]
    for call in sorted(calls, key=lambda call: call.lineno):
        if isinstance(call.args[0], ast.Constant):
            kind, suffix = KINDS[ast.unparse(call.func)]
            meaning = texts[call.args[1].id] if isinstance(call.args[1], ast.Name) else call.args[1]
            name = f"{call.args[0].value}{suffix}"
            if name not in names:
                names.add(name)
                is_of_node = id(call) not in of_database
                yield MetricInfo(name, kind, ast.literal_eval(meaning), tuple(_labels(call)), is_of_node)


def _labels(call: ast.Call) -> list[str]:
    """The names of the labels: the third argument, or `labels`."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "labels"]
    values = named or (call.args[2:3] if ast.unparse(call.func) in ("_labelled", "Counter") else [])
    return [name for value in values for name in _as_list(ast.literal_eval(value))]


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


if __name__ == "__main__":
    main()
