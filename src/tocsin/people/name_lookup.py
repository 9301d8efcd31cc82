"""Names in specs: a name that is still free, and the group with a given name. Case is ignored."""

from __future__ import annotations

from django.db.models import Model

from tocsin.core.validation.object_reader import NAME_IN_USE, ObjectReader
from tocsin.people.models import Group
from tocsin.people.reasons import NO_SUCH_GROUP


def read_unique_name[M: Model](spec: ObjectReader, model: type[M], existing: M | None) -> str:
    """Returns the spec's name. Records an error if another row of `model` uses it."""
    name = spec.name()
    others = model._default_manager.exclude(pk=existing.pk) if existing else model._default_manager.all()
    if name and others.filter(name__iexact=name).exists():
        spec.add_error("name", NAME_IN_USE(name=name), "name_taken")
    return name


def read_group(spec: ObjectReader) -> Group | None:
    """Returns the group named under `group`, or None if none is named. Records an error if it does not exist."""
    name = spec.text("group")
    group = Group.objects.filter(name__iexact=name).first() if name else None
    if name and group is None:
        spec.add_error("group", NO_SUCH_GROUP(name=name), "not_found")
    return group
