"""The pages of one configured object: its form, and the question before it is deleted.

The question shows what still refers to the object, what else ends with it, and the reason for a rejection. Both show
concurrent changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Model
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from tocsin.access import audit
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.config.settings_store import make_etag
from tocsin.core.errors import Rejected
from tocsin.core.reasons import AlertRef, Reason, as_reason
from tocsin.inbound.admin.commands import ACTIVE_ALERTS, DELAYED_ALERTS
from tocsin.resources import registry
from tocsin.resources.registry import RESOURCES, SCHEDULES
from tocsin.resources.resource import Resource
from tocsin.web.http.request import (
    SignedInRequest,
    View,
    actor,
    find_editable,
    find_object,
    may,
    offer_own_groups,
    render_view,
    require,
    require_somewhere,
    requires,
)
from tocsin.web.ui.formatting import format_short
from tocsin.web.ui.forms import SpecForm, offer_own_zone
from tocsin.web.ui.object_list import ObjectList

# ---------- references
# Lists the objects that refer to an object about to be deleted, each with the view that removes the reference. Reads
# only.


#: By the code of a reference: the kind of object that refers, and the view that removes the reference.
_VIEWS: dict[str, tuple[Resource[Any], str]] = {
    **{resource.reference.code: (resource, resource.views.edit) for resource in RESOURCES if resource.reference},
    hooks.OVERRIDE.code: (SCHEDULES, SCHEDULES.views.detail),
}


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """One referring object. `url` is empty if no view can edit it."""

    reason: Reason
    url: str = ""

    def __str__(self) -> str:
        return self.reason.localized()


def references_to(object_type: str, number: int) -> list[ObjectReference]:
    """Return every object that refers to the given one, without duplicates."""
    found = hooks.references_to(object_type, number)
    urls: dict[Reason, str] = {}
    for code, (resource, view) in _VIEWS.items():
        urls.update(_urls(resource, view, [reference for reference in found if reference.code == code]))
    for reference in found:
        if isinstance(alert := dict(reference.params).get("alert"), AlertRef):
            urls[reference] = reverse("alert", args=[alert.alert_id])
        elif reference.code == ACTIVE_ALERTS.code:
            urls[reference] = f"{reverse('alerts')}?integration={number}"
        elif reference.code == DELAYED_ALERTS.code:
            urls[reference] = reverse("integration", args=[number])
    return [ObjectReference(reference, urls.get(reference, "")) for reference in found]


def _urls(resource: Resource[Any], view: str, found: Sequence[Reason]) -> Iterator[tuple[Reason, str]]:
    by_name = {str(reference[resource.name_column]): reference for reference in found}
    if by_name:
        rows = resource.rows().filter(**{f"{resource.name_column}__in": by_name})
        for number, name in rows.values_list("pk", resource.name_column):
            yield by_name[name], reverse(view, args=[number])


# ---------- edit conflicts
# Edit conflicts: when two users edit one object, the second save is rejected once before it overwrites the first.
#
# A form carries a stamp of the object as it was shown. A view creates a `FormSnapshot`, saves inside `unchanged`, and
# passes the snapshot to the template, which writes the hidden field (`seen.html`). Delete confirmations do the same.


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
        return f"{self._stamp(self._state())}.{audit.newest_change()}"

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Run the block, without concurrent configuration changes, if the object is unchanged since it was rendered.

        Otherwise raises Rejected("changed_meanwhile"). The re-rendered form carries the new state, so a second save
        succeeds.
        """
        with settings_store.exclusive(self._row):
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
        entries = list(audit.list_changes(self._noun, self._number, self._keys, after=since_change))
        if not entries:
            # An object that this one refers to was renamed or deleted.
            if self._is_deleting:
                return _("This was changed in the meantime. Review it in another tab before deleting.")
            return _("This was changed in the meantime. Review it in another tab: saving again overwrites it.")
        names = dict.fromkeys(
            _("You") if entry.actor_id == self._request.user.pk else entry.actor_name for entry in entries
        )
        text = (
            _("%(who)s changed this in the meantime (%(when)s). Review it in another tab before deleting.")
            if self._is_deleting
            else _(
                "%(who)s changed this in the meantime (%(when)s). Review it in another tab: saving again overwrites it."
            )
        )
        when = format_short(timezone.localtime(entries[0].at))
        return text % {"who": ", ".join([*names][:_MAX_NAMED]), "when": when}


# ---------- form pages


class ObjectPage[M: Model]:
    """The page with the form of one kind of flat object, which creates one or changes one; a subclass adds what is the
    kind's own. A view: `number` is the object's id, `named` what else the URL names: the vendor of a new one.
    """

    template = "parts/object_form.html"
    partials: tuple[str, ...] = ()
    form_type: type[SpecForm] = SpecForm
    #: The heading of a new object.
    new_title: Any = ""
    #: What is said once it is saved, and whether the object's own page is next, instead of the list.
    saved: Any = gettext_lazy("Saved.")
    shows_saved = False
    #: Whether those who may not change an object see the page all the same.
    is_readable = False
    #: Whether the page says what refers to the object.
    shows_use = False

    def __init__(self, listing: ObjectList[M]) -> None:
        self.listing, self.resource = listing, listing.resource

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def __call__(self, request: SignedInRequest, number: int | None = None, **named: str) -> HttpResponse:
        resource, action = self.resource, self.resource.change_permission
        if number is None or not self.is_readable:
            require_somewhere(request, action)
        row = find_object(resource, number) if number is not None else None
        may_change = row is None or may(request, action, resource.owner_group_id(row))
        if row is not None and not (self.is_readable and request.method != "POST"):
            require(request, action, resource.owner_group_id(row))
        form = self.form(request, row, named)
        if "group" in form.fields:
            offer_own_groups(request, form.fields["group"])
        if row is None and "time_zone" in form.fields and form.fields["time_zone"].required:
            offer_own_zone(form)
        snapshot = FormSnapshot.of(request, resource, row, state=self.state)
        if request.method == "POST" and form.is_valid():
            try:
                saved = self.save(request, form, row, snapshot)
            except Rejected as rejected:
                form.show(rejected)
            else:
                if saved is not None:
                    self.announce(request, saved)
                    views = resource.views
                    return redirect(views.detail, saved.pk) if self.shows_saved else redirect(views.list)
        context = {
            "row": row,
            "form": form,
            "snapshot": snapshot,
            "may_change": may_change,
            "heading": row or self.title(named),
            "back": reverse(resource.views.list),
            "back_label": self.listing.title or _(resource.plural),
            "delete_url": reverse(f"delete_{resource.object_type}", args=[row.pk]) if row else "",
            "used_by": hooks.references_to(resource.object_type, row.pk) if row and self.shows_use else (),
            **self.context(request, row, form),
        }
        status = 422 if request.method == "POST" and request.POST.get("do") != "preview" else 200
        return render_view(request, self.template, context, partials=self.partials, status=status)

    def form(self, request: SignedInRequest, row: M | None, named: Mapping[str, str]) -> Any:
        """Return the form of an object, or of a new one. May raise Http404."""
        current = self.resource.spec(row) if row else self.begin(request)
        data, files = (request.POST, request.FILES) if request.method == "POST" else (None, None)
        return self.form_type(data, files, spec_type=self.resource.spec_type, current=current)

    def state(self, row: M) -> Mapping[str, Any]:
        """Return what the form edits, for edit conflicts."""
        return self.resource.state_of(row)

    def begin(self, request: SignedInRequest) -> dict[str, Any]:
        """Return what a new object begins with, in spec form."""
        return {}

    def save(self, request: SignedInRequest, form: Any, row: M | None, snapshot: FormSnapshot) -> M | None:
        """Save the object; return None for a preview. Raises Rejected, or PermissionDenied."""
        with snapshot.unchanged():
            if row is not None:
                # What the form does not show may have changed.
                form.current = self.resource.spec(row)
            saved = self.resource.save(form.spec(), existing=row, actor=actor(request), now=request.now)
            require(request, self.resource.change_permission, self.resource.owner_group_id(saved))
        return saved

    def title(self, named: Mapping[str, str]) -> str:
        """Return the heading of a new object."""
        return str(self.new_title)

    def announce(self, request: SignedInRequest, saved: M) -> None:
        """Say that the object is saved."""
        messages.success(request, self.message(saved))

    def message(self, saved: M) -> str:
        """Return what is said once the object is saved."""
        return self.saved % {"name": saved} if "%" in self.saved else str(self.saved)

    def context(self, request: SignedInRequest, row: M | None, form: Any) -> dict[str, Any]:
        """Return further variables of the template."""
        return {}


#: What happens to dependent objects.
CONSEQUENCES: Mapping[str, Any] = {
    registry.USERS.key: gettext_lazy(
        "Their actions stay in the audit log under their name. To block sign-in only, deactivate the user instead."
    ),
    registry.GROUPS.key: gettext_lazy("Only the group is deleted. Its members keep their accounts."),
    registry.SERVICE_ACCOUNTS.key: gettext_lazy(
        "Its tokens stop working immediately. Its actions stay in the audit log under its name."
    ),
    registry.IDENTITY_PROVIDERS.key: gettext_lazy(
        "No one can sign in with it any more. The users stay, with the roles and groups that they have now."
    ),
    registry.HOLIDAY_CALENDARS.key: gettext_lazy("Remove it from everything that uses it, then delete it."),
    registry.SCHEDULES.key: gettext_lazy(
        "Its overrides are deleted too. The members with a role in the group are on call again, in the group's order."
    ),
    registry.SUPPORT_HOURS.key: gettext_lazy("Remove them from everything that uses them, then delete them."),
    registry.POLICIES.key: gettext_lazy("Running escalations keep using this policy."),
    registry.CLIENT_TABLES.key: gettext_lazy("Open alerts keep their recipients."),
    registry.OUTBOUND_INTEGRATIONS.key: gettext_lazy(
        "Queued calls are not sent, and its log is deleted. The webhook in Halo is kept."
    ),
    registry.INTEGRATIONS.key: gettext_lazy(
        "Its webhook URL stops working immediately, and its messages are removed from the log. Its alerts are kept."
    ),
    registry.MAINTENANCE_WINDOWS.key: gettext_lazy("Held alerts are created now."),
    registry.WORKFLOWS.key: gettext_lazy("Scheduled runs are cancelled and the log is deleted."),
    registry.PROVIDERS.key: gettext_lazy(
        "Queued messages use the channel's next provider, or go to the sandbox if there is none."
    ),
    registry.CALL_ROUTES.key: gettext_lazy(
        "Callers of its numbers hear that the number is not in service. Its past calls are kept."
    ),
    registry.CLIENT_REPORTS.key: gettext_lazy("The address gets no further reports."),
}


def delete_view(resource: Resource[Any]) -> View:
    """Return the view that deletes an object of this kind."""

    @require_http_methods(["GET", "HEAD", "POST"])
    @requires(resource.change_permission)
    def delete(request: SignedInRequest, number: int) -> HttpResponse:
        row = find_editable(request, resource, number)
        snapshot = FormSnapshot.of(request, resource, row, is_deleting=True)
        problem = ""
        if request.method == "POST":
            try:
                with snapshot.unchanged():
                    resource.delete(row, actor=actor(request), now=request.now)
            except Rejected as rejected:
                problem = rejected.reason.localized()
            else:
                messages.success(request, _("%(name)s deleted.") % {"name": row})
                return redirect(resource.views.list)
        context = {
            "object_name": str(row),
            "problem": problem,
            "back": (resource.views.detail, number),
            "consequences": CONSEQUENCES[resource.key],
            "snapshot": snapshot,
            "used_by": references_to(resource.object_type, number),
        }
        return render_view(request, "parts/delete.html", context, status=409 if problem else 200)

    return delete
