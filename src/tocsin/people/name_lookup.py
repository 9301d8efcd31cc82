"""Names in specs: one that is free for a row, and the group that one means. Told apart without regard to case."""

from __future__ import annotations

from django.db.models import Model

from tocsin.core.validation.object_reader import ObjectReader
from tocsin.people.models import Group


def free_name[M: Model](read: ObjectReader, model: type[M], existing: M | None, what: str) -> str:
    """The name that the spec gives, refused if another row of `model` has it; `what` is a row with its article."""
    name = read.name()
    others = model._default_manager.exclude(pk=existing.pk) if existing else model._default_manager.all()
    if name and others.filter(name__iexact=name).exists():
        read.refuse("name", f'there is {what} "{name}" already.', "name_taken")
    return name


def group_of(read: ObjectReader) -> Group | None:
    """The group that the spec names under `group`, refused if there is none of that name; None if it names none."""
    name = read.text("group")
    group = Group.objects.filter(name__iexact=name).first() if name else None
    if name and group is None:
        read.refuse("group", f'there is no group "{name}".', "not_found")
    return group
