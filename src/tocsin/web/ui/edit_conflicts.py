"""Edit conflicts: when two users edit one object, the second save is rejected once before it overwrites the first.

A form carries a stamp of the object as it was shown. A view creates a `FormSnapshot`, saves inside `unchanged`, and
passes the snapshot to the template, which writes the hidden field (`seen.html`). Delete confirmations do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext as _

from tocsin.access import history
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.net.etag import make_etag
from tocsin.core.reasons import as_reason
from tocsin.resources.resource import Resource
from tocsin.web.http.request import SignedInRequest
from tocsin.web.ui.times import format_short

#: Name of the hidden field.
FIELD = "snapshot"

#: Code of the rejection of the second save.
CHANGED = "changed_meanwhile"

#: The rejection names at most this many users.
_MAX_NAMED = 3


class FormSnapshot:
    """The state of an object when its form was rendered, compared again when the form is saved."""

    def __init__(
        self,
        request: SignedInRequest,
        noun: str,
        number: object,
        state: Callable[[], Mapping[str, Any]] | None,
        *,
        row: Model | None = None,
        keys: Collection[str] = (),
        is_deleting: bool = False,
    ) -> None:
        """`noun` and `number` identify the object as in the audit log.

        - `state` returns the object's current spec, or is None for an object that is being created.
        - `row` is read again before the block runs.
        - `keys` limits the comparison to these keys of the spec.
        - `is_deleting` marks a delete confirmation.
        """
        self._request = request
        self._noun, self._number, self._keys = noun, number, keys
        self._state, self._row = state, row
        self._posted = request.POST.get(FIELD)
        self._is_conflict_shown, self._is_deleting = False, is_deleting

    @classmethod
    def of[M: Model](
        cls,
        request: SignedInRequest,
        resource: Resource[M],
        row: M | None,
        *,
        state: Callable[[M], Mapping[str, Any]] | None = None,
        keys: Collection[str] = (),
        is_deleting: bool = False,
    ) -> FormSnapshot:
        """Return the snapshot of `row`, or of an object being created if `row` is None.

        `state` is the part of the object that the form edits, if it is not all of it.
        """
        if row is None:
            return cls(request, resource.object_type, "", None)
        state_of = state or resource.state_of
        return cls(
            request, resource.object_type, row.pk, lambda: state_of(row), row=row, keys=keys, is_deleting=is_deleting
        )

    def __str__(self) -> str:
        """Return the hidden field's value. A re-rendered form keeps its posted value until the user has seen the
        conflict."""
        if self._state is None:
            return ""
        if self._posted is not None and not self._is_conflict_shown:
            return self._posted
        return f"{self._stamp(self._state())}.{history.newest_change()}"

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Run the block, without concurrent configuration changes, if the object is unchanged since it was rendered.

        Otherwise raises Rejected("changed_meanwhile"). The re-rendered form carries the new state, so a second save
        succeeds.
        """
        with config_version.exclusive(self._row):
            if self._state is not None:
                self._compare(self._state())
            yield

    def _compare(self, now: Mapping[str, Any]) -> None:
        posted_stamp, _point, number = (self._posted or "").partition(".")
        if posted_stamp and posted_stamp != self._stamp(now):
            self._is_conflict_shown = True
            since_change = int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0
            raise Rejected(CHANGED, as_reason(self._describe_conflict(since_change)))

    def _stamp(self, spec: Mapping[str, Any]) -> str:
        return make_etag({key: spec.get(key) for key in self._keys} if self._keys else spec)

    def _describe_conflict(self, since_change: int) -> str:
        entries = list(history.list_changes(self._noun, self._number, self._keys, after=since_change))
        if not entries:
            # An object that this one refers to was renamed or deleted.
            if self._is_deleting:
                return _("This was changed since you were asked. Look at it in another tab before you delete it.")
            return _(
                "This was changed since you opened it. Look at it in another tab: if you save again, yours replaces it."
            )
        names = dict.fromkeys(
            _("yourself") if entry.actor_id == self._request.user.pk else entry.actor_name for entry in entries
        )
        placeholders = {
            "who": ", ".join([*names][:_MAX_NAMED]),
            "when": format_short(timezone.localtime(entries[0].at)),
        }
        return (self._deletion_warning() if self._is_deleting else self._save_warning()) % placeholders

    def _deletion_warning(self) -> str:
        return _(
            "This was changed since you were asked, by %(who)s (%(when)s). Look at it in another tab before you delete "
            "it."
        )

    def _save_warning(self) -> str:
        return _(
            "This was changed since you opened it, by %(who)s (%(when)s). Look at it in another tab: if you save "
            "again, yours replaces it."
        )
