"""Names in specs: a name that is still free, and the group with a given name. Case is ignored."""

from __future__ import annotations

from django.db.models import Model

from tocsin.core.validation.object_reader import ObjectReader
from tocsin.people.models import Group


def free_name[M: Model](read: ObjectReader, model: type[M], existing: M | None, what: str) -> str:
    """Returns the spec's name. Records an error if another row of `model` uses it. `what` is "a group" and the like."""
    name = read.name()
    others = model._default_manager.exclude(pk=existing.pk) if existing else model._default_manager.all()
    if name and others.filter(name__iexact=name).exists():
        read.refuse("name", f'there is {what} "{name}" already.', "name_taken")
    return name


def group_of(read: ObjectReader) -> Group | None:
    """Returns the group named under `group`, or None if none is named. Records an error if it does not exist."""
    name = read.text("group")
    group = Group.objects.filter(name__iexact=name).first() if name else None
    if name and group is None:
        read.refuse("group", f'there is no group "{name}".', "not_found")
    return group
