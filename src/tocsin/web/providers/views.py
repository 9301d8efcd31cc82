"""Notification providers in failover order, with a test for each. For administrators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.locale_format import local_term
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.notify.enqueue import provider_tests
from tocsin.notify.inbound import opt_outs
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands, rejections, status
from tocsin.notify.providers.pool import ENVIRONMENT
from tocsin.notify.providers.status import ProviderStatus
from tocsin.notify.registry import BUILT_IN, CHANNELS, KINDS
from tocsin.resources.registry import PROVIDERS
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.providers.forms import ProviderForm, ProviderTestForm, initial_of
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import show_rejection
from tocsin.web.ui.object_list import ObjectList

_LIST = ObjectList(
    PROVIDERS,
    rows_template="providers/rows.html",
    empty_title=gettext_lazy("No providers yet"),
    empty_text=gettext_lazy("Add one below. Until then, all messages stay in the sandbox."),
    icon="send",
    template="providers/list.html",
)


@require_safe
@requires(Permission.ADMINISTER)
def provider_list(request: SignedInRequest) -> HttpResponse:
    """Render every provider in failover order, and the channels without a provider."""
    served = {channel for row in Provider.objects.all() if row.is_enabled for channel in row.channels}
    uses_environment = environment.current().smtp_url is not None
    if uses_environment:
        served.add("email")
    # Built-in providers deliver to addresses of their own: push devices and service URLs.
    served |= {channel for kind in BUILT_IN for channel in kind.channels}
    rows: list[Provider | None] = list(_LIST.matching(request))
    if uses_environment and not request.GET.get("q"):
        rows.append(None)
    return _LIST.render(
        request,
        rows,
        lambda page: _with_status(page, request.now),
        opted_out=_opted_out(),
        kinds=KINDS.values(),
        environment=ENVIRONMENT,
        built_in=BUILT_IN,
        without=[local_term(channel.label) for name, channel in CHANNELS.items() if name not in served],
    )


def _with_status(rows: Sequence[Provider | None], now: datetime) -> Iterator[tuple[Any, ...]]:
    """What the template shows; None stands for the mail server of the environment."""
    statuses = status.statuses()
    rejected = rejections.recent_rejections(now)
    for row in rows:
        name = row.name if row else ENVIRONMENT
        kind, channel_names = (KINDS.get(row.kind), _channel_names(row)) if row else (None, "")
        yield row, kind, statuses.get(name, ProviderStatus()), channel_names, rejected.get(name, ())


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def edit(request: SignedInRequest, number: int | None = None, kind_name: str = "") -> HttpResponse:
    """Create or edit a provider."""
    row = find_object(PROVIDERS, number) if number is not None else None
    kind = KINDS.get(row.kind if row else kind_name)
    if kind is None:
        raise Http404(_("Unknown provider type."))
    stored = commands.secrets_set(row) if row else frozenset()
    initial_values = (
        initial_of(commands.provider_spec(row))
        if row
        else {"name": local_term(kind.label), "channels": list(kind.channels)}
    )
    form = ProviderForm(request.POST or None, kind=kind, stored_secrets=stored, initial=initial_values)
    snapshot = FormSnapshot.of(request, PROVIDERS, row)
    if request.method == "POST" and form.is_valid():
        try:
            with snapshot.unchanged():
                saved = commands.save_provider(form.spec(), existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            show_rejection(form, rejected)
        else:
            messages.success(request, _("%(name)s saved. Test it now.") % {"name": saved.name})
            return redirect("provider", saved.pk)
    context = {
        "form": form,
        "kind": kind,
        "provider": row,
        "snapshot": snapshot,
        **(_status_context(row, request.now) if row else {}),
    }
    return render_view(request, "providers/edit.html", context, status=422 if form.errors else 200)


def _status_context(row: Provider, now: datetime) -> dict[str, Any]:
    """Return the provider's status, recent rejections, callback URLs and test form."""
    return {
        "rejections": rejections.recent_rejections(now).get(row.name, ()),
        "status": status.statuses().get(row.name, ProviderStatus()),
        "callbacks": status.webhook_urls(row),
        "lacks_callback_url": status.lacks_callback_url(row),
        "test_form": ProviderTestForm(channels=row.channels),
    }


@require_POST
@requires(Permission.ADMINISTER)
def send_test(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a test message through this provider only, and show its result."""
    row = find_object(PROVIDERS, number)
    form = ProviderTestForm(request.POST, channels=row.channels)
    if form.is_valid():
        channel, address = form.cleaned_data["channel"], form.cleaned_data["address"]
        try:
            test_id = provider_tests.send_test(row, channel, address, user=request.user, now=request.now)
        except Rejected as rejected:
            messages.error(request, rejected.reason.localized())
        else:
            return redirect("test_result", test_id)
    else:
        messages.error(request, _("Choose a channel and enter an address."))
    return redirect("provider", number)


@require_safe
def contact_card(request: SignedInRequest) -> HttpResponse:
    """Serve the sender numbers as a vCard, so that a phone can let pages through."""
    name = settings_store.get(settings_store.ORGANISATION_NAME)
    card = status.contact_card(f"Tocsin {name}".strip())
    response = HttpResponse(card, content_type="text/vcard; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="tocsin.vcf"'
    return response


@require_POST
@requires(Permission.ADMINISTER)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Test the address and credentials without sending anything."""
    row = find_object(PROVIDERS, number)
    try:
        report = commands.test_provider(row)
    except (Temporary, Permanent, OutcomeUnknown) as error:
        messages.error(request, f"{row.name}: {error.full_reason.localized()}")
    else:
        messages.success(request, f"{row.name}: {report.localized()}")
    return redirect("provider", number)


@require_POST
@requires(Permission.ADMINISTER)
def test_environment(request: SignedInRequest) -> HttpResponse:
    """Test the mail server that the environment configures."""
    try:
        report = commands.test_environment()
    except (Rejected, Temporary, Permanent, OutcomeUnknown) as error:
        messages.error(request, f"{ENVIRONMENT}: {error.full_reason.localized()}")
    else:
        messages.success(request, f"{ENVIRONMENT}: {report.localized()}")
    return redirect("providers")


def _channel_names(row: Provider) -> str:
    return ", ".join(local_term(CHANNELS[name].label) if name in CHANNELS else name for name in row.channels)


def _opted_out() -> list[tuple[int, str, str, datetime]]:
    with database.transaction() as connection:
        return opt_outs.opted_out(connection)
