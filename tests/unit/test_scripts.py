"""The scripts behind `make`: the selected Python, skipped steps, and the icon sprite."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The script that the test is marked with."""
    monkeypatch.syspath_prepend(SCRIPTS)
    name: str = request.param
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("script", [name], indirect=True)


def _python(path: Path, answer: str) -> Path:
    """An executable that answers like an interpreter that is asked for its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return path


@of("interpreters")
def test_pyenv_python_is_located_without_its_shim(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _python(tmp_path / "shims" / "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    own = _python(tmp_path / "versions" / "3.12.1" / "bin" / "python3", "echo cpython 3 12")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    result = script.every_interpreter()
    assert str(own) in result
    assert str(tmp_path / "shims" / "python3") not in result


@of("interpreters")
@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("echo cpython 3 13", (3, 13)),
        ("echo cpython 3 13 t", None),  # a free-threaded build: most packages have no wheels for it
        ("echo pypy 3 13", None),
        ("exit 127", None),
        ("echo nonsense", None),
    ],
)
def test_only_an_ordinary_cpython_that_works_has_a_version(
    script: ModuleType, tmp_path: Path, answer: str, version: tuple[int, int] | None
) -> None:
    assert script.version_of(str(_python(tmp_path / "python3", answer))) == version


@of("interpreters")
def test_python_config_programs_are_not_mistaken_for_python(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("python3-config", "python3.13-config", "python3.13t", "python3.13"):
        _python(tmp_path / name, "echo cpython 3 13")
    monkeypatch.setenv("PATH", str(tmp_path))
    results = [Path(path).name for path in script.every_interpreter() if path.startswith(str(tmp_path))]
    assert results == ["python3.13"]


@of("bring")
def test_step_is_skipped_until_its_inputs_change(script: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "lock.txt"
    source.write_text("a==1")
    stamp = script.Stamp(tmp_path / "made-from", [source])
    assert not stamp.holds()
    stamp.write()
    assert stamp.holds()
    source.write_text("a==2")
    assert not stamp.holds()


@of("bring")
def test_interrupted_step_is_repeated(script: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "lock.txt"
    source.write_text("a==1")
    stamp = script.Stamp(tmp_path / "made-from", [source])
    stamp.write()
    stamp.remove()
    assert not stamp.holds()


@of("build_static")
def test_sprite_contains_each_listed_icon_by_name(script: ModuleType, tmp_path: Path) -> None:
    for style in ("outline", "filled"):
        (tmp_path / style).mkdir()
        (tmp_path / style / "bell.svg").write_text(
            '<svg\n  width="24"\n  viewBox="0 0 24 24"\n  class="icon"\n>\n'
            '  <path stroke="none" d="M0 0h24v24H0z" fill="none" />\n  <path d="M9 17" />\n</svg>'
        )
    drawn = script.sprite("# a comment\n\nbell\nfilled/bell\n", tmp_path)
    assert '<symbol id="bell" viewBox="0 0 24 24"><path d="M9 17" /></symbol>' in drawn
    assert '<symbol id="bell-filled" ' in drawn
    assert "class=" not in drawn


@of("build_static")
def test_each_named_mark_is_drawn_once_in_one_colour(script: ModuleType, tmp_path: Path) -> None:
    for kind in ("one", "two"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "integration.toml").write_text('logo = "acme"\n')
    with pytest.raises(SystemExit, match="one: Simple Icons has no mark “acme”"):
        script.logos(tmp_path, tmp_path)
    (tmp_path / "acme.svg").write_text('<svg role="img" viewBox="0 0 24 24"><title>Acme</title><path d="M9 17"/></svg>')
    drawn = script.logos(tmp_path, tmp_path)
    assert drawn.count("<symbol ") == 1
    assert '<symbol id="acme" viewBox="0 0 24 24" fill="currentColor" stroke="none"><path d="M9 17"/></symbol>' in drawn


@of("build_static")
def test_only_styles_used_by_pages_are_kept(script: ModuleType, tmp_path: Path) -> None:
    styles, page = tmp_path / "all.css", tmp_path / "page.html"
    styles.write_text(".button:hover{color:red}.carousel .item{color:blue}@media print{.button{display:none}}")
    page.write_text('<button class="button {{ tone }}">')
    needed = script.needed_styles(styles, [str(page)])
    assert needed == ".button:hover{color:red}@media print{.button{display:none}}"


@of("build_static")
def test_missing_icon_is_rejected_with_its_line(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="line 2: Tabler has no icon “bel”"):
        script.sprite("# a comment\nbel\n", tmp_path)


@of("build_static")
def test_compressed_forms_of_a_file_that_is_gone_go_too(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.css").write_text("body { margin: 0 }")
    (tmp_path / "old.css.br").write_bytes(b"left over")
    script.compress(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.css", "page.css.br", "page.css.gz"]


@of("verify")
@pytest.mark.parametrize("target", ["thorough", "long"])
def test_each_folder_of_tests_runs_once(script: ModuleType, tmp_path: Path, target: str) -> None:
    root = SCRIPTS.parent
    folders = {path.parent.relative_to(root) for path in (root / "tests").rglob("test_*.py")}
    checks = [check for check in getattr(script, target)(tmp_path) if not check.name.startswith("store and web")]
    for folder in folders:
        runs = [check.name for check in checks if _collects(check.command, folder)]
        assert len(runs) == 1, f"{folder}: {runs}"


@of("verify")
def test_make_test_all_deselects_no_test(script: ModuleType, tmp_path: Path) -> None:
    commands = [check.command for check in script.long(tmp_path)]
    assert not any("-m" in command[3:] or "-k" in command for command in commands)
    assert any("not long" in check.command for check in script.thorough(tmp_path))


@of("verify")
def test_make_test_all_runs_database_tests_on_both_servers(script: ModuleType, tmp_path: Path) -> None:
    for folder in (Path("tests/store"), Path("tests/web")):
        runs = [check for check in script.long(tmp_path) if _collects(check.command, folder)]
        assert ["TOCSIN_TEST_POSTGRES_BIN" in check.environ for check in runs] == [False, True]


@of("verify")
def test_the_slowest_tests_of_all_reports_come_first(script: ModuleType, tmp_path: Path) -> None:
    for name, seconds in (("one", "0.5"), ("two", "7.25")):
        case = f'<testcase classname="tests.unit.test_{name}" name="test_it[1]" time="{seconds}" />'
        (tmp_path / f"{name}.xml").write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
    slowest = script.read_durations(tmp_path)
    assert slowest == [(7.25, "tests.unit.test_two::test_it[1]"), (0.5, "tests.unit.test_one::test_it[1]")]
    assert script.by_file([*slowest, (8.0, "tests.unit.test_one::test_that")]) == [
        (8.5, "tests.unit.test_one"),
        (7.25, "tests.unit.test_two"),
    ]


def _collects(command: list[str], folder: Path) -> bool:
    """Whether a command runs the tests of a folder."""
    named = [Path(argument) for argument in command if argument.startswith("tests")]
    ignored = [Path(argument.removeprefix("--ignore=")) for argument in command if argument.startswith("--ignore=")]
    return any(folder.is_relative_to(path) for path in named) and not any(map(folder.is_relative_to, ignored))


def test_every_icon_that_a_template_draws_is_in_the_sprite() -> None:
    lines = (SCRIPTS / "icons.txt").read_text().splitlines()
    listed = {
        f"{name.removeprefix('filled/')}-filled" if name.startswith("filled/") else name
        for name in lines
        if name and not name.startswith("#")
    }
    templates = SCRIPTS.parent / "src" / "tocsin" / "web" / "templates"
    drawn = {
        name for page in templates.rglob("*.html") for name in re.findall(r'{% icon "([^"]+)"', page.read_text("utf-8"))
    }
    assert drawn - listed == set()
