"""No code decides by the text of a reason or error: codes and parameters are there for that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tocsin

ROOT = Path(tocsin.__file__).parent

#: (module, expression), and why.
ALLOWED = {
    (
        "core/db/guarded_connection.py",
        "'unsupported startup parameter' in str(error)",
    ): "libpq gives no code, and PgBouncer does not translate its messages",
    ("core/db/guarded_connection.py", "_UNTRUSTED in str(error)"): "OpenSSL's text; libpq reports no code",
    ("core/db/start_up.py", "_CERTIFICATE in str(error)"): "libpq's own text, which has no code",
    ("inbound/parsing/xml_text.py", "str(error).partition(':')"): "expat's own text, which has no code",
    ("web/alerts/timeline.py", "reason.localized().partition('\\n')"): "further lines are shown below the first",
}

#: Names that hold a reason, an error, or their text.
_READ = frozenset(
    [
        "reason",
        "reasons",
        "error",
        "errors",
        "exc",
        "exception",
        "problem",
        "problems",
        "rejected",
        "rejection",
        "sentence",
        "detail",
        "remedy",
        "full_reason",
        "remedy_reason",
        "last_error",
    ]
)
_METHODS = frozenset({"startswith", "endswith", "find", "index", "partition", "rpartition", "removeprefix"})


def readings(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that compare, search or take apart the text of a reason or error."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in _METHODS and _is_text(value):
                yield node
            case ast.Compare(left=left, ops=ops, comparators=[right, *_]):
                in_text = isinstance(ops[0], ast.In | ast.NotIn) and _is_text(right)
                is_equal = isinstance(ops[0], ast.Eq | ast.NotEq) and any(
                    _is_text(a) and _is_written(b) for a, b in ((left, right), (right, left))
                )
                if in_text or is_equal:
                    yield node


def _is_text(node: ast.expr) -> bool:
    """`str(reason)`, `error.detail`, `reason.localized()`, `reason["text"]`."""
    match node:
        case ast.Call(func=ast.Name(id="str"), args=[argument]):
            return _is_reason(argument)
        case ast.Call(func=ast.Attribute(attr="localized")):
            return True
        case ast.Attribute(attr="detail" | "remedy", value=value):
            return _is_reason(value)
        case ast.Call(func=ast.Attribute(value=value, attr="lower" | "upper" | "casefold" | "strip")):
            return _is_text(value)
    return False


def _is_reason(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in _READ


def _is_written(node: ast.expr) -> bool:
    """A text that stands in the code."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_no_code_reads_the_text_of_a_reason() -> None:
    found = {
        (str(path.relative_to(ROOT)), ast.unparse(node))
        for path in ROOT.rglob("*.py")
        if "migrations" not in path.parts
        for node in readings(ast.parse(path.read_text()))
    }
    assert found - ALLOWED.keys() == set(), "decide by the code"
    assert ALLOWED.keys() - found == set(), "take out what is gone"


def test_reading_is_recognized() -> None:
    code = """
if "(404)" in str(error): pass
if rejected.detail.startswith("Halo"): pass
if str(problem.reason) == "no": pass
if reason.code == "no": pass
if name in reasons: pass
"""
    assert len(list(readings(ast.parse(code)))) == 3
