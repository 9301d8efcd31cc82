"""The validator of Django's name fields."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from tocsin.core.validation.naming_rules import problem_with_name


def validate_name(name: str) -> None:
    """Django's validator for a name field. Raises ValidationError with the sentence."""
    if problem := problem_with_name(name):
        raise ValidationError(problem, code="invalid_name")
