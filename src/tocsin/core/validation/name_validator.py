"""The validator for name fields of Django models."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from tocsin.core.validation.inputs import name_problem


def validate_name(name: str) -> None:
    """Raises ValidationError, with the reason, if `name` is not a valid object name."""
    if problem := name_problem(name):
        raise ValidationError(str(problem), code="invalid_name")
