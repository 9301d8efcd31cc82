"""Inbound integrations: the list, the catalogue, adding one, and its overview, which waits for the first message."""

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

from tocsin.access.roles import Permission, Role
from tocsin.catalogue.kinds import Category, IntegrationKind, load_kinds
from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import commands, observed_statuses, secrets
from tocsin.inbound.admin.status_rules import StatusEffect
from tocsin.inbound.heartbeats import monitor, schedule
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.operate.checks import address
from tocsin.operate.finding import HealthFinding
from tocsin.outbound.connectors.haloitsm.reference_data import statuses_by_effect
from tocsin.people.models import Group
from tocsin.resources.registry import INTEGRATIONS
from tocsin.web.http.authorization import actor, may, offer_own_groups, require, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import PARTIAL_HEADER, SignedInRequest, render_view
from tocsin.web.integrations import overview
from tocsin.web.integrations.forms import AddIntegrationForm, places_of
from tocsin.web.integrations.save_review import render_review, review_change
from tocsin.web.ui import capped_counts, guide_text
from tocsin.web.ui.forms import show_rejection
from tocsin.web.ui.object_list import ObjectList

#: Integration types shown first in the catalogue; the others follow by title.
_FEATURED_KINDS = ("haloitsm", "api")

#: Placeholder in a guide for users who may not see the webhook URL.
HIDDEN_URL = "https://…/in/…"


_LIST = ObjectList(
    INTEGRATIONS,
    rows_template="integrations/rows.html",
    empty_title=gettext_lazy("No integrations yet"),
    empty_text=gettext_lazy(
        "An integration gives a tool such as HaloITSM a webhook URL. Its rules decide which messages become alerts."
    ),
    icon="webhook",
    add_view="catalogue",
    add_label=gettext_lazy("Add an integration"),
    template="integrations/list.html",
    live="messages config",
)


@require_safe
def integration_list(request: SignedInRequest) -> HttpResponse:
    """Render every integration with its health."""
    rows = Integration.objects.select_related("policy", "group")
    return _LIST.render(request, _LIST.matching(request, rows), lambda page: _with_health(page, request.now))


def _with_health(rows: Sequence[Integration], now: datetime) -> Iterator[tuple[Any, ...]]:
    today = capped_counts.messages_today(now, [row.pk for row in rows])
    active_before = capped_counts.integrations_with_messages([row.pk for row in rows if row.pk not in today])
    beats = monitor.heartbeat_statuses([row for row in rows if row.kind == schedule.KIND])
    for row in rows:
        health = overview.health(row, today.get(row.pk), row.pk in active_before, beats.get(row.pk))
        yield row, overview.kind_of(row), health, today.get(row.pk)


@require_safe
@requires(Permission.MANAGE_ROUTING)
def catalogue(request: SignedInRequest) -> HttpResponse:
    """Render the integration types by category, with search."""
    text = request.GET.get("q", "").strip()[:100]
    selected_category = request.GET.get("category", "")
    kinds_by_name = load_kinds()
    # The most common types come first for users who do not search.
    order = [
        *(kinds_by_name[name] for name in _FEATURED_KINDS),
        *(kind for name, kind in kinds_by_name.items() if name not in _FEATURED_KINDS),
    ]
    kinds = [kind for kind in order if _matches(kind, text, selected_category)]
    categories = [(category, str(category) == selected_category) for category in Category]
    context = {"kinds": kinds, "text": text, "categories": categories, "chosen": selected_category}
    return render_view(request, "integrations/catalogue.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.MANAGE_ROUTING)
def add(request: SignedInRequest, kind_name: str) -> HttpResponse:
    """Show the integration type's description and the form for a new integration."""
    kind = load_kinds().get(kind_name)
    if kind is None:
        raise Http404(_("Unknown integration type “%(name)s”.") % {"name": kind_name})
    form = AddIntegrationForm(request.POST or None, kind=kind, initial=_initial(request, kind))
    if request.user.role == Role.ADMIN:
        # Administrators can set the group later, in the settings; the form contains only required fields.
        del form.fields["group"]
    else:
        offer_own_groups(request, form.fields["group"])
    if request.method == "POST" and form.is_valid():
        require(request, Permission.MANAGE_ROUTING, form.cleaned_data.get("group"))
        try:
            saved = commands.save_integration(form.spec(), actor=actor(request), now=request.now)
        except Rejected as rejected:
            if rejected.code == "reaches_nobody":
                form.show_confirmation()
            if rejected.code == "shared_source":
                form.show_source()
            show_rejection(form, rejected, places_of(kind))
        else:
            return redirect("integration", saved.pk)
    return render_view(
        request, "integrations/add.html", {"form": form, "kind": kind}, status=422 if form.errors else 200
    )


@require_safe
def integration(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the overview: the webhook URL until the first message, then health, observed statuses and the latest
    messages."""
    row, kind = find(number)
    latest = list(
        InboundMessage.objects.filter(integration=row).defer("raw", "headers", "verdict").order_by("-pk")[:10]
    )
    today = capped_counts.messages_today(request.now, [row.pk]).get(row.pk)
    may_see = may(request, Permission.MANAGE_ROUTING, row.group_id)
    url = secrets.masked_url(row) if may_see else ""
    beat = monitor.heartbeat_statuses([row])[row.pk] if row.kind == schedule.KIND else None
    by_effect = statuses_by_effect(row)
    context = {
        **frame(request, row, kind, "overview"),
        "url": url,
        "is_url_unreadable": may_see and not url,
        "guide": guide_text.kind_guide(kind, url or HIDDEN_URL, row.settings) if kind and not latest else "",
        "latest": latest,
        "health": overview.health(row, today, bool(latest), beat),
        "outcomes": capped_counts.outcomes(request.now, row.pk),
        "observed": observed_statuses.load_observed_statuses(row, request.now) if latest else None,
        "effects": [(does, label) for does, label in _STATUS_EFFECTS],
        "in_halo": [(effect, label, by_effect[effect]) for effect, label in _STATUS_EFFECTS] if by_effect else [],
        "would_page": overview.would_page(row, latest[0])
        if latest and request.headers.get(PARTIAL_HEADER) == "first"
        else "",
        "paging_preset": overview.describe_preset(row),
        "beat": beat,
        "dry_run_totals": overview.dry_run_totals(row, request.now),
        "unusable": overview.problem_of(row),
        "not_understood": overview.count_not_understood(row, request.now),
        "without_alert": observed_statuses.count_without_alert(row, request.now) if latest else 0,
        **overview.suppressed_count(row, request.now),
        "may_try": may(request, Permission.TEST_INTEGRATIONS, row.group_id),
    }
    return render_view(request, "integrations/overview.html", context, partials=("first", "received", "health"))


_STATUS_EFFECTS = (
    (StatusEffect.OPEN, gettext_lazy("opens")),
    (StatusEffect.UPDATE, gettext_lazy("updates")),
    (StatusEffect.CLOSE, gettext_lazy("closes")),
)


@require_POST
@requires(Permission.MANAGE_ROUTING)
def set_status(request: SignedInRequest, number: int) -> HttpResponse:
    """Change the effect of one observed status."""
    row, kind = find(number)
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    status = request.POST.get("status", "")
    try:
        effect = StatusEffect(request.POST.get("does", ""))
    except ValueError:
        raise Http404(_("A status can open, update or close an alert.")) from None
    try:
        rules = observed_statuses.rules_with_status(row, status, effect)
        if (review := review_change(request, row, {"rules": rules})) is not None:
            return render_review(request, review, frame(request, row, kind, "overview"), "integration")
        observed_statuses.set_status(row, status, effect, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
        effect_labels = dict(_STATUS_EFFECTS)
        messages.success(
            request, _("Status “%(status)s” now %(does)s alerts.") % {"status": status, "does": effect_labels[effect]}
        )
    return redirect("integration", number)


def find(number: int) -> tuple[Integration, IntegrationKind | None]:
    """Return the integration and its type. Raises Http404."""
    row = find_object(INTEGRATIONS, number)
    return row, overview.kind_of(row)


def frame(request: SignedInRequest, row: Integration, kind: IntegrationKind | None, tab: str) -> dict[str, Any]:
    """Return the context that every tab of an integration needs."""
    return {
        "integration": row,
        "kind": kind,
        "tab": tab,
        # Called by the templates that show the webhook URL.
        "address_findings": lambda: _address_findings(row),
        "may_change": may(request, Permission.MANAGE_ROUTING, row.group_id),
        "may_try": may(request, Permission.TEST_INTEGRATIONS, row.group_id),
    }


def _address_findings(row: Integration) -> list[HealthFinding]:
    """Return why senders may not reach the webhook URL. The first message shows that they do."""
    if InboundMessage.objects.filter(integration=row).exists():
        return []
    return list(address.check_reach(environment.current().base_url))


def _matches(kind: IntegrationKind, text: str, category: str) -> bool:
    texts = (kind.title, kind.description, local_term(kind.title), local_term(kind.description), kind.name)
    searchable = " ".join(texts).casefold()
    return all(word in searchable for word in text.casefold().split()) and (
        not category or str(kind.category) == category
    )


def _initial(request: SignedInRequest, kind: IntegrationKind) -> dict[str, Any]:
    policy = Policy.objects.first()
    used_names = {name.casefold() for name in Integration.objects.values_list("name", flat=True)}
    name, number = kind.title, 2
    while name.casefold() in used_names:
        name, number = f"{kind.title} {number}", number + 1
    # Without a policy, the user who adds the first integration is paged. If there is exactly one group, a policy's
    # roles can only be resolved in that group, so it is preselected.
    groups = list(Group.objects.values_list("pk", flat=True)[:2]) if policy else []
    users = [] if policy else [request.user.pk]
    return {"name": name, "policy": policy, "groups": groups if len(groups) == 1 else [], "users": users}
