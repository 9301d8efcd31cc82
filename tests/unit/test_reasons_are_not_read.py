"""No code decides by the text of a reason or error: codes and parameters are there for that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tocsin

ROOT = Path(tocsin.__file__).parent

#: (module, expression), and why.
ALLOWED = {
    (
        "core/db/database.py",
        "'unsupported startup parameter' in str(error)",
    ): "libpq gives no code, and PgBouncer does not translate its messages",
    ("core/db/database.py", "_UNTRUSTED in str(error)"): "OpenSSL's text; libpq reports no code",
    ("core/config/environment.py", "'query parameter' in unknown"): "libpq's own text, which has no code",
    ("core/db/start_up.py", "_CERTIFICATE in str(error)"): "libpq's own text, which has no code",
    (
        "catalogue/desks.py",
        "re.search('line (\\\\d+)', str(error))",
    ): "before Python 3.14 only tomllib's own text has the line",
    ("inbound/parsing/decode.py", "str(error).partition(':')"): "expat's own text, which has no code",
    ("web/oncall/schedules.py", "text.removesuffix('.')"): "a sentence is continued",
    ("web/alerts/detail.py", "event.reason.localized().partition('\\n')"): "further lines are shown below the first",
}

#: Names that hold a reason, an error, or their text. So does the name of an `except` clause.
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
#: Methods that take a text apart or search it, and those that return it in another form.
_READING = frozenset(
    {"startswith", "endswith", "find", "rfind", "index", "count", "partition", "rpartition", "removeprefix"}
    | {"removesuffix", "split", "rsplit", "splitlines"}
)
_FORMING = frozenset({"lower", "upper", "casefold", "strip", "lstrip", "rstrip", "replace"})
_MATCHING = frozenset({"search", "match", "fullmatch", "findall", "finditer", "split"})

_WORDS = r"(?:\w+_)?(?:reason|error|detail|problem|sentence)s?"
#: In SQL or a template, a text that is searched, or compared with one that stands there.
_IN_TEXT = re.compile(
    rf"\b{_WORDS}\s+(?:not\s+)?(?:i?like|similar\s+to|!?~\*?)\s"
    rf"|(?:position|strpos)\([^)]*\b{_WORDS}\b(?!_code)"
    rf"|{{%\s*(?:el)?if\b[^%]*(?:[\"'\w]\s+in\s+(?:\w+\.)*{_WORDS}\b|\b{_WORDS}(?:\|\w+)?\s*[!=]=\s*[\"'])",
    re.IGNORECASE,
)
#: A look-up of Django by a part of such a column.
_LOOKUP = re.compile(rf"{_WORDS}__i?(?:contains|startswith|endswith|regex)")


def readings(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that compare, search or take apart the text of a reason or error."""
    for nodes in _scopes(tree):
        errors = _READ | {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
        texts: set[str] = set()
        for node in nodes:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                    | ast.NamedExpr(target=ast.Name(id=name), value=value)
                ) if _is_text(value, errors, texts):
                    texts.add(name)
        for node in nodes:
            match node:
                case ast.Match(subject=subject) if _is_text(subject, errors, texts):
                    yield subject
                case ast.expr() if _is_reading(node, errors, texts):
                    yield node


def _scopes(tree: ast.AST) -> Iterator[list[ast.AST]]:
    """The nodes of the module and of each function, in their order, without those of the functions within."""
    nodes, functions = [], []
    rest = list(ast.iter_child_nodes(tree))[::-1]
    while rest:
        node = rest.pop()
        nodes.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(node)
        else:
            rest += list(ast.iter_child_nodes(node))[::-1]
    yield nodes
    for function in functions:
        yield from _scopes(function)


def _is_reading(node: ast.expr, errors: frozenset[str], texts: set[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="split"), args=[]):
            return False  # spaces are joined again
        case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in _READING:
            return _is_text(value, errors, texts)
        case ast.Call(func=ast.Attribute(attr=method), args=arguments) if method in _MATCHING:
            return any(_is_text(argument, errors, texts) for argument in arguments)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[right]):
            return _is_text(left, errors, texts) or _is_text(right, errors, texts)
        case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
            pairs = ((left, right), (right, left))
            return any(_is_text(one, errors, texts) and not _is_empty(other) for one, other in pairs)
    return False


def _is_text(node: ast.expr, errors: frozenset[str], texts: set[str]) -> bool:
    """`str(reason)`, `error.detail`, `reason.localized()`, `f"{error}"`, `error.args[0]`, or a name that holds one."""

    def is_reason(value: ast.expr) -> bool:
        name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
        return name in errors

    match node:
        case ast.Name(id=name):
            return name in texts
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[argument]):
            return is_reason(argument)
        case ast.Call(func=ast.Attribute(attr="localized")):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _FORMING:
            return _is_text(value, errors, texts)
        case ast.Attribute(attr="detail" | "remedy" | "msg", value=value):
            return is_reason(value)
        case ast.Subscript(value=ast.Attribute(attr="args", value=value)):
            return is_reason(value)
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) and is_reason(value.value) for value in values)
    return False


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in ("", None)


def _modules() -> Iterator[tuple[str, ast.AST]]:
    for path in ROOT.rglob("*.py"):
        if "migrations" not in path.parts:
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_no_code_reads_the_text_of_a_reason() -> None:
    found = {(module, ast.unparse(node)) for module, tree in _modules() for node in readings(tree)}
    assert found - ALLOWED.keys() == set(), "decide by the code"
    assert ALLOWED.keys() - found == set(), "take out what is gone"


def test_no_query_or_template_reads_the_text_of_a_reason() -> None:
    texts = [
        (module, node.value)
        for module, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts += [(str(path.relative_to(ROOT)), path.read_text()) for path in ROOT.rglob("*.html")]
    found = [(module, match[0]) for module, text in texts if (match := _IN_TEXT.search(text))]
    found += [
        (module, node.arg or "")
        for module, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and _LOOKUP.fullmatch(node.arg or "")
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'if "(404)" in str(error): pass',
        'if rejected.detail.startswith("Halo"): pass',
        'if str(problem.reason) == "no": pass',
        "if str(problem.reason) == _TEXT: pass",
        "if str(error) in _TEXTS: pass",
        'if f"{error}".endswith("x"): pass',
        'if error.args[0] == "no": pass',
        "if re.search(_PATTERN, str(error)): pass",
        "if _PATTERN.match(reason.localized()): pass",
        'text = str(reason)\nif "(404)" in text.lower(): pass',
        'if (text := str(reason)) and text.split("(")[0]: pass',
        'def f():\n    try: pass\n    except OSError as it:\n        text = str(it)\n        if "gone" in text: pass',
        'match str(error):\n    case "no": pass',
    ],
)
def test_reading_is_recognized(code: str) -> None:
    assert list(readings(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        'if reason.code == "no": pass',
        "if name in reasons: pass",
        'text = str(error)\nlog(text or "unknown")',
        'if str(error) == "": pass',
        'def f():\n    text = str(error)\ndef g(text):\n    return "x" in text',
    ],
)
def test_other_code_is_no_reading(code: str) -> None:
    assert not list(readings(ast.parse(code)))


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("SELECT 1 FROM t WHERE reason LIKE 'held%'", True),
        ("SELECT 1 FROM t WHERE last_error ~ 'held'", True),
        ('{% if "held" in delivery.reason %}', True),
        ('{% if run.reason == "held" %}', True),
        ("SELECT 1 FROM t WHERE reason->>'code' = 'held'", False),
        ("SELECT 1 FROM t WHERE reason <> '{}'", False),
        ('{% if run.reason.code == "held" %}', False),
        ("{% if run.reason != other.reason %}", False),
    ],
)
def test_reading_in_sql_and_templates_is_recognized(text: str, is_read: bool) -> None:
    assert (_IN_TEXT.search(text) is not None) is is_read
