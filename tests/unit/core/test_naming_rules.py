"""Which names are invalid, and why."""

from __future__ import annotations

import pytest

from tocsin.core.validation.field_errors import MAX_LENGTH, name_problem


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Service Desk", ""),
        (" ", "name.required"),
        ("Desk ", "name.surrounding_space"),
        ("x" * (MAX_LENGTH + 1), "name.too_long"),
        ("a/b", "name.slash"),
        ("a\nb", "name.control_character"),
    ],
)
def test_invalid_name_has_its_reason(name: str, code: str) -> None:
    problem = name_problem(name)
    assert (problem.code if problem else "") == code
