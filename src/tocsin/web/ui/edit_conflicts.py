"""Two who have the form of one object open: whoever saves second is told so once, before it undoes what the first did.

A form carries what its object was as it was shown. A view makes a `FormSnapshot`, saves inside `unchanged`, and
hands it to the template, which writes the hidden field (`seen.html`). A page that asks before it deletes does likewise.
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
from tocsin.core.net.etag import stamp
from tocsin.web.http.request import SignedInRequest
from tocsin.web.ui.times import say_short

#: The hidden field.
FIELD = "seen"

#: The code of the rejection of whoever saves second.
CHANGED = "changed_meanwhile"

#: Of several who changed an object, so many are named.
_MAX_NAMED = 3


class FormSnapshot:
    """The state of an object that a form was shown with, or shows next."""

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
        """`noun` and `number` are what the audit log calls the object. `state` is its spec as it is now, or as `row`
        has it; None: nothing was shown, since the object is being made. `keys`: the form is about these alone.
        `is_deleting`: it asks whether to delete the object."""
        self._request = request
        self._noun, self._number, self._keys = noun, number, keys
        self._state, self._row = state, row
        self._posted = request.POST.get(FIELD)
        self._is_told, self._is_deleting = False, is_deleting

    @classmethod
    def of[M: Model](
        cls,
        request: SignedInRequest,
        noun: str,
        row: M | None,
        spec_of: Callable[[M], Mapping[str, Any]],
        *,
        keys: Collection[str] = (),
        is_deleting: bool = False,
    ) -> FormSnapshot:
        """Of a row, or of None for one that is being made."""
        if row is None:
            return cls(request, noun, "", None)
        return cls(request, noun, row.pk, lambda: spec_of(row), row=row, keys=keys, is_deleting=is_deleting)

    def __str__(self) -> str:
        """What the form carries. A form that comes back keeps what it came with, until its reader was told."""
        if self._state is None:
            return ""
        if self._posted is not None and not self._is_told:
            return self._posted
        return f"{self._stamp(self._state())}.{history.newest()}"

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Alone with the object, if it is as the form had it.

        Raises Rejected ("changed_meanwhile") where it is not; saved once more, the form takes its place.
        """
        with config_version.alone(self._row):
            if self._state is not None:
                self._compare(self._state())
            yield

    def _compare(self, now: Mapping[str, Any]) -> None:
        was, _point, number = (self._posted or "").partition(".")
        if was and was != self._stamp(now):
            self._is_told = True
            after = int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0
            raise Rejected(CHANGED, self._said(after))

    def _stamp(self, spec: Mapping[str, Any]) -> str:
        return stamp({key: spec.get(key) for key in self._keys} if self._keys else spec)

    def _said(self, after: int) -> str:
        entries = list(history.changes(self._noun, self._number, self._keys, after=after))
        if not entries:
            # Something that it refers to has another name, or is gone.
            if self._is_deleting:
                return _("This was changed since you were asked. Look at it in another tab before you delete it.")
            return _(
                "This was changed since you opened it. Look at it in another tab: if you save again, yours replaces it."
            )
        names = dict.fromkeys(
            _("yourself") if entry.actor_id == self._request.user.pk else entry.actor_name for entry in entries
        )
        by = {"who": ", ".join([*names][:_MAX_NAMED]), "when": say_short(timezone.localtime(entries[0].at))}
        return (self._when_deleting() if self._is_deleting else self._when_saving()) % by

    def _when_deleting(self) -> str:
        return _(
            "This was changed since you were asked, by %(who)s (%(when)s). Look at it in another tab before you delete "
            "it."
        )

    def _when_saving(self) -> str:
        return _(
            "This was changed since you opened it, by %(who)s (%(when)s). Look at it in another tab: if you save "
            "again, yours replaces it."
        )
