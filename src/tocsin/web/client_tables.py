"""Client tables for routing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import specs as commands
from tocsin.inbound.models import ClientTable
from tocsin.people.models import Group
from tocsin.resources.registry import CLIENT_TABLES
from tocsin.web.http.request import (
    SignedInRequest,
    actor,
    find_editable,
    offer_own_groups,
    render_view,
    require,
    requires,
)
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import CodeField, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- views
# Client tables: the list, the CSV form, and the deletion.


#: Maximum size of an uploaded file.
MAX_FILE_BYTES = 2_000_000


_ROW = re.compile(r"clients\[(\d+)\]")


class ClientTableForm(forms.Form):
    """A client table, pasted or uploaded."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    group = forms.ModelChoiceField(
        Group.objects.all(),
        label=gettext_lazy("Owned by"),
        required=False,
        empty_label=gettext_lazy("Administrators only"),
    )
    clients = CodeField(
        label=gettext_lazy("Clients"),
        required=False,
        help_text=gettext_lazy("One per row: client, group, policy. The policy is optional."),
    )
    file = forms.FileField(
        label=gettext_lazy("Or a CSV file"),
        required=False,
        help_text=gettext_lazy("Replaces the rows above."),
    )

    def clean_file(self) -> str:
        """Return the file's text, or "" without a file."""
        upload = self.cleaned_data.get("file")
        if upload is None:
            return ""
        if upload.size > MAX_FILE_BYTES:
            raise forms.ValidationError(_("This file is too large for a client table."))
        try:
            return str(upload.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise forms.ValidationError(_("This file is not UTF-8 text; save it as CSV UTF-8.")) from None


_LIST = ObjectList(
    CLIENT_TABLES,
    rows_template="client_tables/rows.html",
    empty_title=gettext_lazy("No client tables yet"),
    empty_text=gettext_lazy("A client table maps each client to its group. Routes refer to it by name."),
    icon="users-group",
    add_view="new_client_table",
    add_label=gettext_lazy("New table"),
    template="client_tables/list.html",
)


@require_safe
def client_table_list(request: SignedInRequest) -> HttpResponse:
    """Render every table with its number of clients."""
    return _LIST.render(request, _LIST.matching(request))


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def edit(request: SignedInRequest, number: int | None = None) -> HttpResponse:
    """Create or edit a client table."""
    row = find_editable(request, CLIENT_TABLES, number) if number is not None else None
    form = ClientTableForm(request.POST or None, request.FILES or None, initial=_initial(row))
    offer_own_groups(request, form.fields["group"])
    snapshot = FormSnapshot.of(request, CLIENT_TABLES, row)
    if request.method == "POST" and form.is_valid():
        data, clients = form.cleaned_data, list[dict[str, str]]()
        try:
            require(request, Permission.MANAGE_ROUTING, data["group"])
            clients = commands.from_csv(data["file"] or data["clients"])
            spec = {"name": data["name"], "group": data["group"].name if data["group"] else None, "clients": clients}
            with snapshot.unchanged():
                saved = commands.save_client_table(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            _show_errors(form, rejected, clients)
        else:
            count = len(saved.clients)
            messages.success(
                request, ngettext("Saved: %(count)s client.", "Saved: %(count)s clients.", count) % {"count": count}
            )
            return redirect("client_tables")
    used_by = hooks.references_to("client_table", row.pk) if row else []
    context = {"table": row, "form": form, "snapshot": snapshot, "used_by": used_by}
    return render_view(request, "client_tables/edit.html", context, status=422 if form.errors else 200)


def _show_errors(form: ClientTableForm, rejected: Rejected, clients: Sequence[Mapping[str, str]]) -> None:
    """Name the client in each problem, because a row number is hard to find in a pasted table."""
    for problem in problems_of(rejected):
        row = _ROW.match(problem.field or "")
        if row is None:
            show_rejection(form, problem)
        else:
            form.add_error("clients", f"{clients[int(row[1])].get('client', '–')}: {field_error_text(problem)}")


def _initial(row: ClientTable | None) -> dict[str, object]:
    if row is None:
        return {"clients": "client, group, policy\n"}
    clients = commands.CLIENT_TABLES.spec(row).get("clients", ())
    return {"name": row.name, "group": row.group, "clients": commands.to_csv(clients)}
