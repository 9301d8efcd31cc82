"""Client tables for routing."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from tocsin.core.errors import Rejected
from tocsin.inbound.admin import specs as commands
from tocsin.inbound.models import ClientTable
from tocsin.resources.registry import CLIENT_TABLES
from tocsin.web.http.request import SignedInRequest
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import CodeField, SpecForm, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

#: Maximum size of an uploaded file.
MAX_FILE_BYTES = 2_000_000


_ROW = re.compile(r"clients\[(\d+)\]")


class ClientTableForm(SpecForm):
    """A client table, pasted or uploaded."""

    clients = CodeField()
    file = forms.FileField(
        label=gettext_lazy("Or a CSV file"),
        required=False,
        help_text=gettext_lazy("Replaces the rows above."),
    )
    layout = ("name", "group")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        clients = self.current.get("clients")
        self.initial["clients"] = commands.to_csv(clients) if clients else "client, group, policy\n"

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

    def spec(self) -> dict[str, Any]:
        """Return the table in spec form. Raises Rejected, naming the row."""
        text = self.cleaned_data["file"] or self.cleaned_data["clients"]
        self.entered = commands.from_csv(text)
        return {**super().spec(), "clients": self.entered}

    def show(self, rejected: Rejected) -> None:
        """Name the client in each problem, because a row number is hard to find in a pasted table."""
        for problem in problems_of(rejected):
            row = _ROW.match(problem.field or "")
            if row is None:
                show_rejection(self, problem)
            else:
                client = self.entered[int(row[1])].get("client", "–")
                self.add_error("clients", f"{client}: {field_error_text(problem)}")


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


class ClientTablePage(ObjectPage[ClientTable]):
    """The CSV form."""

    template = "client_tables/edit.html"
    form_type = ClientTableForm
    new_title = gettext_lazy("New client table")
    shows_use = True

    def message(self, saved: ClientTable) -> str:
        count = len(saved.clients)
        return ngettext("Saved: %(count)s client.", "Saved: %(count)s clients.", count) % {"count": count}


edit = ClientTablePage(_LIST)
