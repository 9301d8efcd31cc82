"""Several documents become one configuration, and each part that cannot be used is named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.configure import config_files, yaml_loader
from tocsin.core.reasons import Reason


def problems(folder: Path, *texts: str) -> list[tuple[str, str]]:
    """The text and the innermost code of each problem."""
    documents = [yaml_loader.parse(text, f"{number}.yaml", folder) for number, text in enumerate(texts, 1)]
    return [(problem.detail, innermost(problem.reason)) for problem in config_files.collect(documents).problems]


def innermost(reason: Reason) -> str:
    inner = next((value for _name, value in reason.params if isinstance(value, Reason)), None)
    return reason.code if inner is None else innermost(inner)


@pytest.mark.parametrize(
    ("texts", "place", "code"),
    [
        (
            ("settings: {time_zone: UTC}", "\nsettings:\n  time_zone: UTC"),
            "2.yaml:3",
            'the setting "{name}" is there twice.',
        ),
        (("xyzzy: []",), "1.yaml:1", 'unknown key "{key}"; known: {keys}.'),
        (("integrations:\n- name: a\n  token: {file: 7}",), "1.yaml:3", "file: must be a path."),
        (("integrations:\n- name: a\n  token: {file: binary}",), "1.yaml:3", "the file {file} is not UTF-8."),
        (
            ("integrations:\n- name: a\n  token: {file: empty}",),
            "1.yaml:3",
            "the file {file} is empty, or larger than {maximum} KiB.",
        ),
    ],
)
def test_unusable_part_is_named_by_file_and_line(texts: tuple[str, ...], place: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "empty").write_bytes(b"\n")
    [(detail, found)] = problems(tmp_path, *texts)
    assert (detail.partition(": ")[0], found) == (place, code)
