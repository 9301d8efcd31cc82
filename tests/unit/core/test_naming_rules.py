"""Which names are invalid, and why."""

from __future__ import annotations

import pytest

from tocsin.core.validation.inputs import MAX_LENGTH, name_problem


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Service Desk", ""),
        (" ", "A name is required."),
        ("Desk ", "A name must not begin or end with a space."),
        ("x" * (MAX_LENGTH + 1), "A name must have at most {maximum} characters, but this one has {length}."),
        ("a/b", "A name must not contain a slash (/), because names are used in URLs."),
        ("a\nb", "A name must not contain line breaks or control characters."),
    ],
)
def test_invalid_name_has_its_reason(name: str, code: str) -> None:
    problem = name_problem(name)
    assert (problem.code if problem else "") == code
