"""Writes docs/reference/metrics.md, every metric of `/metrics`. Run by `make reference`.

The metrics are read from the source, because the gauges exist only with a database.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tocsin"
DOCUMENT = ROOT / "docs" / "reference" / "metrics.md"

INTRODUCTION = """\
# Metrics

`GET /metrics` answers in Prometheus' format. [How to scrape it, and what to alert on](../how-to/operate.md#metrics).

This page is written by `make reference`.
"""

GAUGES = PACKAGE / "operate" / "http" / "gauges.py"

#: The functions of that module whose gauges each node has for itself.
OF_NODES = ("pool_gauges", "queue_gauges")

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


def document() -> str:
    """The whole page: a table of what each node counts, and one of what the database has."""
    counters = PACKAGE / "core" / "runtime" / "metrics.py", PACKAGE / "operate" / "http" / "metrics.py"
    functions = [
        node for node in ast.parse(GAUGES.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    of_nodes = [row for module in counters for row in _rows(ast.parse(module.read_text(encoding="utf-8")))]
    of_nodes += [row for function in functions if function.name in OF_NODES for row in _rows(function)]
    of_database = [row for function in functions if function.name not in OF_NODES for row in _rows(function)]
    return (
        INTRODUCTION
        + _section("Of each node", "Sum them over the nodes. `process_*` are the usual metrics of a process.", of_nodes)
        + _section("Of the database", "They are the same on every node.", of_database)
    )


def _section(heading: str, text: str, rows: list[str]) -> str:
    head = "| metric | kind | meaning |\n|---|---|---|\n"
    return f"\n## {heading}\n\n{text}\n\n{head}{''.join(dict.fromkeys(rows))}"


def _rows(tree: ast.AST) -> Iterator[str]:
    """A row for each call that makes a metric with a constant name."""
    nodes = list(ast.walk(tree))
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
            labels = ",".join(_labels(call))
            name = f"{call.args[0].value}{suffix}{f'{{{labels}}}' if labels else ''}"
            yield f"| `{name}` | {kind} | {ast.literal_eval(meaning)} |\n"


def _labels(call: ast.Call) -> list[str]:
    """The names of the labels: the third argument, or `labels`."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "labels"]
    values = named or (call.args[2:3] if ast.unparse(call.func) in ("_labelled", "Counter") else [])
    return [name for value in values for name in _as_list(ast.literal_eval(value))]


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


if __name__ == "__main__":
    main()
