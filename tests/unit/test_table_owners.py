"""A table's name stands in its own room: others read it by what that offers (`people/sql.py`, `alerts/store.py`)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps

import tocsin

_ROOT = Path(tocsin.__file__).parent

#: The number of files that may name a shared table in SQL.
_MAX_FILES = {"alerts_alert": 10, "people_user": 6}

_WRITE = r"(?i:INSERT\s+INTO|UPDATE|DELETE\s+FROM|COPY|TRUNCATE)\s+\"?"


def _texts(path: Path) -> Iterator[str]:
    """The strings of a module, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value
        # It moves the times in a table.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Timers":
            yield f"UPDATE {ast.literal_eval(node.args[0])}"


def _sql() -> dict[str, str]:
    """All strings of each module, and SQL files, by path."""
    modules = {path: "\n".join(_texts(path)) for path in _ROOT.rglob("*.py") if "migrations" not in path.parts}
    files = {path: path.read_text(encoding="utf-8") for path in _ROOT.rglob("*.sql")}
    return {str(path.relative_to(_ROOT)): text for path, text in sorted({**modules, **files}.items())}


def _rooms() -> dict[str, str]:
    """The room of each table."""
    models = apps.get_models(include_auto_created=True)
    return {
        model._meta.db_table: model._meta.app_config.name.split(".")[1]
        for model in models
        if model._meta.app_config.name.startswith("tocsin.")
    }


def test_shared_tables_are_named_in_few_files() -> None:
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path, text in _sql().items():
        for table in _MAX_FILES:
            if re.search(rf"\b{table}\b", text):
                files[table].append(path)
    assert {table: files[table] for table, most in _MAX_FILES.items() if len(files[table]) > most} == {}


def test_no_room_writes_another_rooms_table() -> None:
    rooms = _rooms()
    written = re.compile(rf"{_WRITE}({'|'.join(sorted(rooms, key=len, reverse=True))})\b")
    found = {
        (path, table)
        for path, text in _sql().items()
        for table in written.findall(text)
        if rooms[table] != Path(path).parts[0]
    }
    assert found == set()
