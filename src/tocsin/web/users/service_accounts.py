"""Service accounts: list, creation, editing, their tokens. For administrators."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count, Max, Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.people.changes import service_accounts
from tocsin.people.models import Group, ServiceAccount
from tocsin.resources.registry import SERVICE_ACCOUNTS
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.me.tokens import active_tokens
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection
from tocsin.web.ui.object_list import ObjectList
from tocsin.web.users.forms import USER_ROLES


class ServiceAccountForm(forms.Form):
    """A service account: what its tokens may do at most, and where."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=USER_ROLES, widget=forms.RadioSelect, initial=Role.OBSERVER
    )
    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Acts for groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("It is never paged with them."),
    )
    active = forms.BooleanField(
        label=gettext_lazy("Active"),
        required=False,
        initial=True,
        help_text=gettext_lazy("Tokens of an inactive account are rejected."),
    )

    def spec(self) -> dict[str, Any]:
        """Return the service account in spec form."""
        return {**self.cleaned_data, "groups": [group.name for group in self.cleaned_data["groups"]]}


_LIST = ObjectList(
    SERVICE_ACCOUNTS,
    rows_template="users/service_account_rows.html",
    empty_title=gettext_lazy("No service accounts"),
    empty_text=gettext_lazy(
        "A service account owns the tokens of a script or pipeline, so that they outlive people. It cannot sign in."
    ),
    icon="id-badge",
    add_view="new_service_account",
    add_label=gettext_lazy("New service account"),
    template="users/service_accounts.html",
)


@require_safe
@requires(Permission.ADMINISTER)
def account_list(request: SignedInRequest) -> HttpResponse:
    """Render every service account with its groups and valid tokens."""
    is_valid = Q(api_tokens__revoked_at=None, api_tokens__expires_at__gt=request.now)
    rows = ServiceAccount.objects.prefetch_related("service_groups").annotate(
        token_count=Count("api_tokens", filter=is_valid), last_used_at=Max("api_tokens__last_used_at")
    )
    return _LIST.render(request, _LIST.matching(request, rows.order_by("-is_active", "name")))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def account(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a service account; show its tokens."""
    row = find_object(SERVICE_ACCOUNTS, number) if number is not None else None
    form = ServiceAccountForm(request.POST or None, initial=_initial(row) if row else None)
    snapshot = FormSnapshot.of(request, SERVICE_ACCOUNTS, row)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                saved = service_accounts.save_service_account(
                    form.spec(), existing=row, actor=actor(request), now=request.now
                )
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("Saved."))
            return redirect("service_account", saved.pk)
    context = {
        "account": row,
        "form": form,
        "snapshot": snapshot,
        "tokens": active_tokens(row, request.now) if row else [],
    }
    return render_view(request, "users/service_account.html", context, status=422 if form.errors else 200)


def _initial(row: ServiceAccount) -> dict[str, Any]:
    return {"name": row.name, "role": row.role, "groups": row.service_groups.all(), "active": row.is_active}
