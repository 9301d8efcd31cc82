"""The shape of the source tree: no import circle, no hidden import, no stale name in text."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tocsin

PACKAGE = Path(tocsin.__file__).parent
ROOT = PACKAGE.parent.parent

#: A test's name states one behaviour. Its words stand between underscores, after `test_`.
MAX_WORDS_IN_A_TEST_NAME = 10

#: What follows "tocsin." in names of hosts.
NOT_MODULES = {"example"}

#: A file of the tree as text names it: from the checkout's root, or from the package.
FILE_NAME = re.compile(r"(?<![\w./:-])((?:src/tocsin/|tests/|scripts/|benchmarks/)?(?:\w+/)+\w+\.py)\b")

#: Late imports: a command starts in milliseconds, Django calls `ready()` once models are loaded, and the web process
#: sets Django up by itself.
LATE_IMPORTS_ALLOWED = ("tocsin.cli.", "tocsin.apps", "tocsin.web.apps", "tocsin.web_process")


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(path): path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts}
TEXTS = {name: path.read_text() for name, path in MODULES.items()}


@cache
def _trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in TEXTS.items()}


def _targets(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ImportFrom(module=str(module), names=names, level=0) if module.split(".")[0] == "tocsin":
            for alias in names:
                yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module
        case ast.Import(names=names):
            yield from (alias.name for alias in names if alias.name in MODULES)


def _imports(name: str) -> set[str]:
    return {target for node in ast.walk(_trees()[name]) for target in _targets(node) if target != name}


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    results: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for target in graph[name] & graph.keys():
            if target not in index:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], index[target])
        if lowest[name] == index[name]:
            circle = set()
            while name not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                results.append(circle)

    for name in graph:
        if name not in index:
            visit(name)
    return results


def test_no_circle_of_imports_exists_hidden_ones_included() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert _circles({name: _imports(name) for name in MODULES}) == []


def test_rooms_are_imported_at_the_top_of_a_module() -> None:
    hidden = [
        f"{name}:{inner.lineno}"
        for name, tree in _trees().items()
        if not name.startswith(LATE_IMPORTS_ALLOWED)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.If)
        for inner in ast.walk(outer)
        if any(_targets(inner))
    ]
    assert hidden == []


#: What the API and the web interface call with numbers of objects, and why that shows and changes nothing hidden.
#: Everything else takes what was found within the boundary of whoever asks: rows, or a `VisibleAlert`.
MAY_TAKE_NUMBERS = {
    "tocsin.alerts.service.find_alert": "finds it within the boundary",
    "tocsin.alerts.service.find_alerts": "finds them within the boundary",
    "tocsin.inbound.inspect.replay": "finds it within the boundary",
    "tocsin.inbound.inspect.replay_many": "finds them within the boundary",
    "tocsin.inbound.admin.commands.find_version": "a number of the integration's own",
    "tocsin.inbound.admin.commands.restore_version": "a number of the integration's own",
    "tocsin.notify.inbound.responder_actions.press_button": "signed numbers; finds it within the user's boundary",
    "tocsin.notify.inbound.responder_actions.open_for": "what paged the user, which the view then finds",
    "tocsin.notify.text.signed_links.sign": "of rows that were found",
    "tocsin.notify.inbound.responder_actions.resolve_merged": "of a signed link, whose view then finds the alert",
    "tocsin.alerts.store.load": "of alerts that were found",
    "tocsin.alerts.store.open_questions": "of rows that were listed",
    "tocsin.escalation.explain.next_steps": "of rows that were listed",
    "tocsin.escalation.run.run_store.load_plans": "of the run of an alert that was found",
    "tocsin.notify.pages.load_recipients": "of the viewer",
    "tocsin.notify.providers.pool.account_of": "of a provider, for its own webhook",
    "tocsin.notify.providers.pool.slug": "of a provider, for its own webhook",
    "tocsin.oncall.loader.groups_of": "of rows that were listed",
    "tocsin.oncall.loader.on_call": "of rows that were listed",
    "tocsin.oncall.loader.plan": "of a group that was found",
    "tocsin.oncall.loader.plans": "of rows that were listed",
    "tocsin.operate.coverage.coverage_of_groups": "of rows that were listed",
    "tocsin.operate.coverage.readiness_of_groups": "of rows that were listed",
    "tocsin.operate.coverage.tonight": "of rows that were listed",
    "tocsin.people.changes.api_tokens.group_names": "of one's own token",
    "tocsin.resources.visibility.about_visible_alerts": "of rows that were listed",
    "tocsin.workflows.run.run_store.load_sla_moments": "of rows that were listed",
}

#: These record what was done, with the number of the object's owner.
_RECORDING = "tocsin.access.audit."

_NAMES_A_NUMBER = re.compile(r"(^|_)(id|ids|number|numbers|pk)$")


def _taking_numbers(name: str) -> dict[str, list[str]]:
    """The module's public functions that take a number of an object, with the types of their other parameters."""
    taking: dict[str, list[str]] = {}
    for function in _trees()[name].body:
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name.startswith("_"):
            continue
        parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        types = {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in parameters}
        if any(_NAMES_A_NUMBER.search(key) and re.search(r"\b(int|UUID)\b", text) for key, text in types.items()):
            taking[f"{name}.{function.name}"] = list(types.values())
    return taking


def _used(name: str) -> Iterator[str]:
    """The dotted names of what a module uses of others."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(_trees()[name])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(_trees()[name]):
        match node:
            case ast.Name(id=local) if local in imported:
                yield imported[local]
            case ast.Attribute(value=ast.Name(id=local), attr=attribute) if local in imported:
                yield f"{imported[local]}.{attribute}"


def test_what_people_ask_for_takes_found_objects() -> None:
    rooms = [name for name in MODULES if not name.startswith(("tocsin.core.", "tocsin.api.", "tocsin.web."))]
    taking = {function for name in rooms for function in _taking_numbers(name)}
    asked = {used for name in MODULES if name.startswith(("tocsin.api.", "tocsin.web.")) for used in _used(name)}
    assert {name for name in asked & taking if not name.startswith(_RECORDING)} == set(MAY_TAKE_NUMBERS)


def test_no_command_of_an_actor_takes_a_number() -> None:
    """An object of which nothing but the number is known was found by nobody."""
    taking = {
        function
        for name in MODULES
        for function, types in _taking_numbers(name).items()
        if not name.startswith(("tocsin.api.", "tocsin.web.")) and "AuditActor" in types
    }
    assert {name for name in taking - set(MAY_TAKE_NUMBERS) if not name.startswith(_RECORDING)} == set()


def test_only_the_alerts_room_finds_alerts() -> None:
    """Tocsin itself names the alert with which it deals; whoever answers a request has to find it."""
    makes = {
        name
        for name, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("FoundAlert", "VisibleAlert")
    }
    assert makes == {"tocsin.alerts.service"}
    by_tocsin = {name for name, text in TEXTS.items() if "by_tocsin(" in text}
    assert not [name for name in by_tocsin if name.startswith(("tocsin.api.", "tocsin.web.", "tocsin.notify."))]


def test_frozen_slotted_classes_are_not_called_by_type_parameters() -> None:
    """Python 3.12.0 to 3.12.2 cannot: `typing` sets an attribute on what was made, and gets a TypeError."""
    nodes = [node for tree in _trees().values() for node in ast.walk(tree)]
    slotted = {
        node.name
        for node in nodes
        if isinstance(node, ast.ClassDef) and node.type_params
        for decorator in map(ast.unparse, node.decorator_list)
        if "frozen=True" in decorator and "slots=True" in decorator
    }
    called = {
        node.func.value.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name)
    }
    assert slotted & called == set()
    assert "SettingDefinition" in called


def _is_about_a_module(dotted: str) -> bool:
    """Two parts may be a file's name or an attribute of a variable; more are a module's, unless they are a host's."""
    first, *rest = dotted.split(".")[1:]
    return f"tocsin.{first}" in MODULES or (bool(rest) and first not in NOT_MODULES)


def _is_known(dotted: str) -> bool:
    """Whether a dotted name is a module, or a top-level name of one and anything below it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module not in MODULES:
            continue
        if length == len(parts) or (PACKAGE.parent.joinpath(*parts)).is_dir():
            return True
        return re.search(rf"\b{parts[length]}\b", TEXTS[module]) is not None
    return False


@pytest.mark.parametrize("folder", ["src/tocsin", "tests", "docs", "benchmarks", "scripts"])
def test_every_dotted_name_in_text_exists(folder: str) -> None:
    documents = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md") and path.is_file()]
    stale = {
        f"{path.relative_to(ROOT)}: {dotted}"
        for path in documents
        if "migrations" not in path.parts
        for dotted in re.findall(r"(?<![\w./@-])tocsin(?:\.[a-z]\w*)+", path.read_text())
        if _is_about_a_module(dotted) and not _is_known(dotted)
    }
    assert stale == set()


@pytest.mark.parametrize("folder", ["src/tocsin", "docs"])
def test_every_source_file_named_in_text_exists(folder: str) -> None:
    documents = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md") and path.is_file()]
    documents += [ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
    stale = {
        f"{path.relative_to(ROOT)}: {named}"
        for path in documents
        if "migrations" not in path.parts
        for named in re.findall(FILE_NAME, path.read_text())
        if not any((base / named).exists() for base in (ROOT, PACKAGE))
    }
    assert stale == set()


def test_no_test_name_has_more_than_ten_words() -> None:
    functions = [
        (path, node)
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    overlong = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, node in functions
        if len(node.name.removeprefix("test_").split("_")) > MAX_WORDS_IN_A_TEST_NAME
    }
    assert overlong == set()


#: The documents of the source tree: every path and dotted name between backticks is one of the tree.
ARCHITECTURE = "docs/explanation/architecture.md"
TREE_DOCUMENTS = ("CONTRIBUTING.md", ARCHITECTURE)

#: Paths are named from the checkout's root or from the package.
PATH_NAME = re.compile(r"\.?[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:py|md|toml|txt|html|po)")

#: Beginnings of paths that `make setup` or a reader's own machine has.
NOT_IN_THE_TREE = (".venv/", "/usr/")

#: Files that many folders have, named without one.
IN_MANY_FOLDERS = {
    *("models.py", "commands.py", "tasks.py", "listener.py", "__init__.py"),
    *("guide.md", "guide.de.md", "integration.toml"),
}


def _code_spans(document: str) -> set[str]:
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def _is_in_the_tree(path: str) -> bool:
    if path.startswith(NOT_IN_THE_TREE):
        return True
    if path in IN_MANY_FOLDERS:
        return any(PACKAGE.rglob(path))
    return any((base / path).exists() for base in (ROOT, PACKAGE))


@pytest.mark.parametrize("document", TREE_DOCUMENTS)
def test_every_path_in_documents_of_the_tree_exists(document: str) -> None:
    named = {span for span in _code_spans(document) if PATH_NAME.fullmatch(span)}
    assert len(named) > 10
    assert {path for path in named if not _is_in_the_tree(path)} == set()


@pytest.mark.parametrize("document", TREE_DOCUMENTS)
def test_every_dotted_name_in_documents_of_the_tree_exists(document: str) -> None:
    spans = {span for span in _code_spans(document) if re.fullmatch(r"[a-z_]+(?:\.[a-zA-Z_]+)+", span)}
    dotted = {
        span if span.startswith("tocsin.") else f"tocsin.{span}" for span in spans if not PATH_NAME.fullmatch(span)
    }
    assert {name for name in dotted if f"tocsin.{name.split('.')[1]}" in MODULES and not _is_known(name)} == set()


def test_every_name_in_documents_of_the_tree_exists() -> None:
    words = {word for text in TEXTS.values() for word in re.findall(r"\w+", text)} | {
        path.name for path in PACKAGE.rglob("*")
    }
    names = {span for span in _code_spans(ARCHITECTURE) if re.fullmatch(r"\w+", span)}
    assert names - words == set()


def test_rooms_are_listed_in_their_order() -> None:
    table = (ROOT / ARCHITECTURE).read_text().partition("| rooms, highest first")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    rooms = [set(re.findall(r"\w+", row)) for row in rows]
    assert rooms == [set(level) for level in _layers("Imports go downwards only")]


def test_sub_rooms_are_listed_in_their_order() -> None:
    text = (ROOT / ARCHITECTURE).read_text()
    table = text.partition("| sub-rooms, highest first")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) > 6
    for room, listed in rows:
        names = re.findall(r"`(\w+)`", listed)
        order = [
            name for level in _layers(f"The rooms of {room}") for name in level if (PACKAGE / room / name).is_dir()
        ]
        assert [name for name in order if name in names] == names, room


def _layers(contract: str) -> list[list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["name"] == contract)
    return [re.findall(r"\w+", layer) for layer in layers]
