"""Providers: what carries messages out, in order, with a test of each. For administrators."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Action
from tocsin.core import config
from tocsin.core.egress import OutcomeUnknown
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.notify import commands
from tocsin.notify.channels.registry import CHANNELS, KINDS
from tocsin.notify.models import Provider
from tocsin.notify.providers import ENVIRONMENT
from tocsin.web.forms import show_rejection
from tocsin.web.guard import actor, needs
from tocsin.web.providers.forms import ProviderForm, initial_of
from tocsin.web.request import Request, page


@require_safe
@needs(Action.ADMINISTER)
def provider_list(request: Request) -> HttpResponse:
    """Every provider in the order in which it is tried, and the channels that have none."""
    rows = list(Provider.objects.all())
    carried = {channel for row in rows if row.is_enabled for channel in row.channels}
    by_environment = config.current().smtp_url is not None
    if by_environment:
        carried.add("email")
    context = {
        "rows": [(row, KINDS.get(row.kind)) for row in rows],
        "kinds": KINDS.values(),
        "environment": ENVIRONMENT if by_environment else "",
        "without": [channel.label for name, channel in CHANNELS.items() if name not in carried],
    }
    return page(request, "providers/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@needs(Action.ADMINISTER)
def edit(request: Request, number: int | None = None, kind_name: str = "") -> HttpResponse:
    """A new provider, or changes to one."""
    row = _find(number) if number is not None else None
    kind = KINDS.get(row.kind if row else kind_name)
    if kind is None:
        raise Http404(_("This version does not know that kind of provider."))
    stored = commands.secrets_set(row) if row else frozenset()
    begin = initial_of(commands.provider_spec(row)) if row else {"name": kind.label, "channels": list(kind.channels)}
    form = ProviderForm(request.POST or None, kind=kind, stored_secrets=stored, initial=begin)
    if request.method == "POST" and form.is_valid():
        try:
            saved = commands.save_provider(form.spec(), existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("%(name)s is saved. Test it now.") % {"name": saved.name})
            return redirect("provider", saved.pk)
    context = {"form": form, "kind": kind, "provider": row}
    return page(request, "providers/edit.html", context, status=422 if form.errors else 200)


@require_POST
@needs(Action.ADMINISTER)
def test(request: Request, number: int) -> HttpResponse:
    """Tries address and credentials, and sends nothing."""
    row = _find(number)
    try:
        said = commands.test_provider(row)
    except (Temporary, Permanent, OutcomeUnknown) as error:
        messages.error(request, f"{row.name}: {error}")
    else:
        messages.success(request, f"{row.name}: {said}")
    return redirect("provider", number)


@require_POST
@needs(Action.ADMINISTER)
def test_environment(request: Request) -> HttpResponse:
    """The same for the mail server that the environment names."""
    try:
        said = commands.test_environment()
    except (Rejected, Temporary, Permanent, OutcomeUnknown) as error:
        messages.error(request, f"{ENVIRONMENT}: {error}")
    else:
        messages.success(request, f"{ENVIRONMENT}: {said}")
    return redirect("providers")


@require_http_methods(["GET", "HEAD", "POST"])
@needs(Action.ADMINISTER)
def delete(request: Request, number: int) -> HttpResponse:
    """Asks first, and says what becomes of its messages."""
    row = _find(number)
    if request.method == "POST":
        commands.delete_provider(row, actor=actor(request), now=request.now)
        messages.success(request, _("%(name)s is deleted.") % {"name": row.name})
        return redirect("providers")
    context = {
        "what": row.name,
        "back": ("provider", row.pk),
        "about": _("What waits goes by the next provider of its channel, or into the sandbox if there is none."),
    }
    return page(request, "parts/delete.html", context)


def _find(number: int) -> Provider:
    row = Provider.objects.filter(pk=number).first()
    if row is None:
        raise Http404(_("This provider is gone."))
    return row
