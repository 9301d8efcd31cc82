"""docs/how-to/operate.md names every problem of the self-check, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tocsin.operate

HOME = Path(tocsin.operate.__path__[0])
TEXT = (Path(__file__).parents[3] / "docs" / "how-to" / "operate.md").read_text()


def _first_words(module: Path, *callees: str) -> Iterator[str]:
    """The constant first argument of each call of these; of an f-string what stands before its first brace."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in callees):
            continue
        match node.args[0] if node.args else None:
            case ast.Constant(value=str(word)) | ast.JoinedStr(values=[ast.Constant(value=str(word)), *_]):
                yield word


def test_every_problem_of_the_self_check_is_explained() -> None:
    table = TEXT.partition("### The self-check")[2].partition("### The heartbeat")[0]
    explained = {word.partition(":")[0] for word in re.findall(r"^\| `([a-z_]+(?::NAME)?)` \|", table, re.MULTILINE)}
    assert explained == {word.rstrip(":") for word in _first_words(HOME / "self_check.py", "DetectedProblem")}
