"""Names in specs: a name that is still free, and the group with a given name. Case is ignored."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Model

from tocsin.access import boundary
from tocsin.core.validation.field_errors import NAME_IN_USE
from tocsin.core.validation.spec import SpecErrors
from tocsin.core.validation.spec_types import OwnedSpec
from tocsin.people.models import Group
from tocsin.people.reasons import NO_SUCH_GROUP


def names_check[M: Model](model: type[M], existing: M | None) -> Callable[[OwnedSpec, SpecErrors], None]:
    """Returns a check for `Spec.read`: no other row of `model` has the name, and the group exists."""

    def check(spec: OwnedSpec, errors: SpecErrors) -> None:
        others = model._default_manager.exclude(pk=existing.pk) if existing else model._default_manager.all()
        if not errors.has("name") and others.filter(name__iexact=spec.name).exists():
            errors.add("name", NAME_IN_USE(name=spec.name), "name_taken")
        if spec.group and find_group(spec.group) is None:
            errors.add("group", NO_SUCH_GROUP(name=spec.group), "not_found")

    return check


def find_group(name: str) -> Group | None:
    """Returns the group with that name, or None if there is none that the viewer sees."""
    with boundary.as_viewer():
        return Group.objects.filter(name__iexact=name).first() if name else None
