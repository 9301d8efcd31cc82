"""Notification providers and e-mail replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.decorators.http import require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.config import environment, settings_store
from tocsin.core.db import database
from tocsin.core.reasons import local_term
from tocsin.notify import notices
from tocsin.notify.inbound import responder_actions
from tocsin.notify.inbound.mail_replies import ReplyResult
from tocsin.notify.interfaces import DAILY_TEST_USER
from tocsin.notify.models import MailReply, Provider
from tocsin.notify.providers import commands, health, pool
from tocsin.notify.providers.pool import BUILT_IN, CHANNELS, ENVIRONMENT, KINDS, ProviderStatus
from tocsin.people.models import User
from tocsin.resources.registry import PROVIDERS
from tocsin.web.http.request import SignedInRequest, find_object, render_view, reporting, requires
from tocsin.web.me.contact_methods import result_context
from tocsin.web.ui import object_list
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import SpecForm, channel_name, set_choices
from tocsin.web.ui.object_list import ObjectList


class ProviderTestForm(forms.Form):
    """A test message through the provider."""

    channel = forms.ChoiceField(label=gettext_lazy("Channel"))
    address = forms.CharField(label=pgettext_lazy("recipient", "To"), max_length=500)

    def __init__(self, *args: Any, channels: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self, "channel", _channel_choices(channels))


def _channel_choices(channels: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, channel_name(name)) for name in channels]


# ---------- mail replies
# E-mail replies and their outcomes, to find out why a reply had no effect. For administrators.


@require_safe
@requires(Permission.ADMINISTER)
def mail_replies(request: SignedInRequest) -> HttpResponse:
    """Render the replies, newest first, filtered by outcome."""
    rows = MailReply.objects.select_related("user").order_by("-id")
    outcome = request.GET.get("outcome", "")
    if outcome in tuple(ReplyResult):
        rows = rows.filter(outcome=outcome)
    result = object_list.paginate_by_number(rows, request.GET.get("cursor", ""), size=50)
    context = {"rows": result.rows, "pagination": result, "chosen": outcome}
    return render_view(request, "providers/mail_replies.html", context, partials=("list",))


# ---------- views
# Notification providers in failover order, with a test for each. For administrators.


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
        smtp_variable=environment.variable_in_use("smtp_url"),
        built_in=BUILT_IN,
        without=[local_term(channel.label) for name, channel in CHANNELS.items() if name not in served],
    )


def _with_status(rows: Sequence[Provider | None], now: datetime) -> Iterator[tuple[Any, ...]]:
    """What the template shows; None stands for the SMTP server of the environment or of Settings."""
    statuses = pool.statuses(now)
    rejected = health.recent_rejections(now)
    with database.transaction() as connection:
        week = health.figures(connection, [row.name if row else ENVIRONMENT for row in rows], 7, now)
    for row in rows:
        name = row.name if row else ENVIRONMENT
        kind, channel_names = (KINDS.get(row.kind), _channel_names(row)) if row else (None, "")
        yield row, kind, statuses.get(name, ProviderStatus()), channel_names, rejected.get(name, ()), week[name]


class ProviderPage(ObjectPage[Provider]):
    """The form of a provider, made from the settings of its kind, with its status and a test."""

    template = "providers/edit.html"
    partials = ("test",)
    saved = gettext_lazy("%(name)s saved. Test it now.")
    shows_saved = True

    def form(self, request: SignedInRequest, row: Provider | None, named: Mapping[str, str]) -> SpecForm:
        kind = KINDS.get(row.kind if row else named["kind_name"])
        if kind is None:
            raise Http404(_("Unknown provider type."))
        begin = {"kind": kind.name, "name": local_term(kind.label), "channels": kind.channels}
        form = SpecForm(
            request.POST or None,
            spec_type=commands.spec_of(kind.name),
            current=commands.provider_spec(row) if row else begin,
            stored_secrets=commands.secrets_set(row) if row else (),
        )
        if (tested := form.fields.get(DAILY_TEST_USER.name)) is not None:
            administrators = User.objects.filter(role=Role.ADMIN, is_active=True, is_service_account=False).order_by(
                "username"
            )
            tested.widget = forms.Select(choices=[("", "–"), *((one.username, str(one)) for one in administrators)])
        return form

    def title(self, named: Mapping[str, str]) -> str:
        return _("Add %(kind)s") % {"kind": local_term(KINDS[named["kind_name"]].label)}

    def context(self, request: SignedInRequest, row: Provider | None, form: SpecForm) -> dict[str, Any]:
        return {"kind": KINDS[form.current["kind"]], **(_status_context(request, row) if row else {})}


edit = ProviderPage(_LIST)


def _status_context(request: SignedInRequest, row: Provider) -> dict[str, Any]:
    """Return the provider's status, figures, callback URLs, test form, and the result of the user's test."""
    try:
        result = result_context(request.user, UUID(request.GET.get("test", "")))
    except (ValueError, Http404):
        result = {}
    tested = result.get("notification")
    with database.transaction() as connection:
        tests = [one for one in notices.daily_tests(connection, request.now) if one.provider == row.name]
        figures = [health.figures(connection, [row.name], days, request.now)[row.name] for days in health.PERIODS]
    return {
        **result,
        "figures": figures,
        "daily_tests": [(one, channel_name(one.channel), one.is_problem(request.now)) for one in tests],
        "most_counted": health.MAX_COUNTED,
        "status": pool.statuses(request.now).get(row.name, ProviderStatus()),
        "callbacks": pool.webhook_urls(row),
        "lacks_callback_url": pool.lacks_callback_url(row),
        "test_form": ProviderTestForm(
            channels=row.channels,
            initial={"channel": tested.channel, "address": tested.address} if tested else None,
        ),
    }


@require_POST
@requires(Permission.ADMINISTER)
def send_test(request: SignedInRequest, number: int) -> HttpResponse:
    """Send a test message through this provider only, and show its result beside the provider."""
    row = find_object(PROVIDERS, number)
    form = ProviderTestForm(request.POST, channels=row.channels)
    if not form.is_valid():
        messages.error(request, _("Choose a channel and enter an address."))
        return redirect("provider", number)
    data, test_id = form.cleaned_data, None
    with reporting(request):
        test_id = notices.send_test(row, data["channel"], data["address"], user=request.user, now=request.now)
    query = {"test": str(test_id)} if test_id else None
    return redirect(f"{reverse('provider', args=[number], query=query)}#test")


@require_safe
def contact_card(request: SignedInRequest) -> HttpResponse:
    """Serve the sender numbers as a vCard, so that a phone can let pages through."""
    name = settings_store.get(settings_store.ORGANISATION_NAME)
    card = pool.contact_card(f"Tocsin {name}".strip())
    response = HttpResponse(card, content_type="text/vcard; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="tocsin.vcf"'
    return response


@require_safe
@requires(Permission.ADMINISTER)
def package(request: SignedInRequest, number: int) -> HttpResponse:
    """Serve the file that is uploaded at the vendor's."""
    row = find_object(PROVIDERS, number)
    if not (content := pool.build_package(row)):
        raise Http404(_("This provider has no package."))
    kind = KINDS[row.kind]
    response = HttpResponse(content, content_type=kind.package_type)
    response["Content-Disposition"] = f'attachment; filename="{kind.package_name}"'
    return response


@require_POST
@requires(Permission.ADMINISTER)
def test(request: SignedInRequest, number: int) -> HttpResponse:
    """Test the address and credentials without sending anything."""
    row = find_object(PROVIDERS, number)
    with reporting(request, row.name):
        messages.success(request, f"{row.name}: {commands.test_provider(row).localized()}")
    return redirect("provider", number)


@require_POST
@requires(Permission.ADMINISTER)
def test_environment(request: SignedInRequest) -> HttpResponse:
    """Test the SMTP server of the environment or of Settings."""
    with reporting(request, ENVIRONMENT):
        messages.success(request, f"{ENVIRONMENT}: {commands.test_environment().localized()}")
    return redirect("providers")


def _channel_names(row: Provider) -> str:
    return ", ".join(map(channel_name, row.channels))


def _opted_out() -> list[tuple[int, str, str, datetime]]:
    with database.transaction() as connection:
        return responder_actions.opted_out(connection)
