"""Inbound integrations: the list, the catalogue, adding one, and its overview, which waits for the first message."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.catalogue.kinds import Category, IntegrationKind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.escalation.models import Policy
from tocsin.inbound.admin import commands, observed_statuses, secrets
from tocsin.inbound.admin.status_rules import StatusEffect
from tocsin.inbound.heartbeats import monitor, schedule
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.people.models import Group
from tocsin.web.http.authorization import actor, may, may_somewhere, offer_own_groups, require, requires
from tocsin.web.http.request import PART, SignedInRequest, page
from tocsin.web.integrations import overview
from tocsin.web.integrations.forms import AddIntegrationForm, places_of
from tocsin.web.told import told
from tocsin.web.ui import capped_counts, guide_text
from tocsin.web.ui.forms import show_rejection

#: Integration types shown first in the catalogue; the others follow by title.
_FIRST = ("haloitsm", "api")

#: Placeholder in a guide for users who may not see the webhook URL.
HIDDEN_URL = "https://…/in/…"


@require_safe
def integration_list(request: SignedInRequest) -> HttpResponse:
    """Render every integration with its health."""
    rows = list(Integration.objects.select_related("policy", "group"))
    today = capped_counts.messages_today(request.now, [row.pk for row in rows])
    before = capped_counts.with_messages([row.pk for row in rows if row.pk not in today])
    beats = monitor.heartbeat_statuses([row for row in rows if row.kind == schedule.KIND])
    shown = [
        (
            row,
            overview.kind_of(row),
            overview.health(row, today.get(row.pk), row.pk in before, beats.get(row.pk)),
            today.get(row.pk),
        )
        for row in rows
    ]
    context = {"rows": shown, "may_add": may_somewhere(request, Permission.ROUTING)}
    return page(request, "integrations/list.html", context, parts=("list",))


@require_safe
@requires(Permission.ROUTING)
def catalogue(request: SignedInRequest) -> HttpResponse:
    """Render the integration types by category, with search."""
    text = request.GET.get("q", "").strip()[:100]
    chosen = request.GET.get("category", "")
    known = load_kinds()
    # The most common types come first for users who do not search.
    order = [*(known[name] for name in _FIRST), *(kind for name, kind in known.items() if name not in _FIRST)]
    kinds = [kind for kind in order if _fits(kind, text, chosen)]
    categories = [(category, str(category) == chosen) for category in Category]
    context = {"kinds": kinds, "text": text, "categories": categories, "chosen": chosen}
    return page(request, "integrations/catalogue.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ROUTING)
def add(request: SignedInRequest, kind_name: str) -> HttpResponse:
    """Show the integration type's description and the form for a new integration."""
    kind = load_kinds().get(kind_name)
    if kind is None:
        raise Http404(_("The catalogue has no “%(name)s”.") % {"name": kind_name})
    form = AddIntegrationForm(request.POST or None, kind=kind, initial=_initial(request, kind))
    if request.user.role == Role.ADMIN:
        # Administrators can set the group later, in the settings; the form contains only required fields.
        del form.fields["group"]
    else:
        offer_own_groups(request, form.fields["group"])
    if request.method == "POST" and form.is_valid():
        require(request, Permission.ROUTING, form.cleaned_data.get("group"))
        try:
            made = commands.save_integration(form.spec(), actor=actor(request), now=request.now)
        except Rejected as rejected:
            if rejected.code == "reaches_nobody":
                form.ask_anyway()
            if rejected.code == "shared_source":
                form.ask_source()
            show_rejection(form, rejected, places_of(kind))
        else:
            return redirect("integration", made.pk)
    return page(request, "integrations/add.html", {"form": form, "kind": kind}, status=422 if form.errors else 200)


@require_safe
def integration(request: SignedInRequest, number: int) -> HttpResponse:
    """Render the overview: the webhook URL until the first message, then health, observed statuses and the latest
    messages."""
    row, kind = find(number)
    latest = list(
        InboundMessage.objects.filter(integration=row).defer("raw", "headers", "verdict").order_by("-pk")[:10]
    )
    today = capped_counts.messages_today(request.now, [row.pk]).get(row.pk)
    may_see = may(request, Permission.ROUTING, row.group_id)
    url = secrets.masked_url(row) if may_see else ""
    beat = monitor.heartbeat_statuses([row])[row.pk] if row.kind == schedule.KIND else None
    context = {
        **frame(request, row, kind, "overview"),
        "url": url,
        "is_lost": may_see and not url,
        "guide": guide_text.of_kind(kind, url or HIDDEN_URL, row.settings) if kind and not latest else "",
        "latest": latest,
        "health": overview.health(row, today, bool(latest), beat),
        "outcomes": capped_counts.outcomes(request.now, row.pk),
        "seen": observed_statuses.statuses_seen(row, request.now) if latest else None,
        "does": [(does, label) for does, label in _DOES],
        "would": overview.would_page(row, latest[0]) if latest and request.headers.get(PART) == "first" else "",
        "which": overview.which_page(row),
        "beat": beat,
        "dry_run_totals": overview.dry_run_totals(row, request.now),
        "unusable": overview.problem_of(row),
        **overview.suppressed_count(row, request.now),
        "may_try": may(request, Permission.TRY_OUT, row.group_id),
    }
    return page(request, "integrations/overview.html", context, parts=("first", "received", "health"))


_DOES = (
    (StatusEffect.OPEN, gettext_lazy("opens")),
    (StatusEffect.UPDATE, gettext_lazy("updates")),
    (StatusEffect.CLOSE, gettext_lazy("closes")),
)


@require_POST
@requires(Permission.ROUTING)
def set_status(request: SignedInRequest, number: int) -> HttpResponse:
    """Change the effect of one observed status."""
    row, _kind = find(number)
    require(request, Permission.ROUTING, row.group_id)
    status = request.POST.get("status", "")
    try:
        wanted = StatusEffect(request.POST.get("does", ""))
    except ValueError:
        raise Http404(_("A status opens, updates or closes.")) from None
    try:
        observed_statuses.set_status(row, status, wanted, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.detail)
    else:
        words = dict(_DOES)
        messages.success(request, _("Status “%(status)s” now %(does)s.") % {"status": status, "does": words[wanted]})
    return redirect("integration", number)


def find(number: int) -> tuple[Integration, IntegrationKind | None]:
    """Return the integration and its type. Raises Http404."""
    rows = Integration.objects.select_related("policy", "group", "current_version")
    row = rows.filter(pk=number).first()
    if row is None:
        raise Http404(_("This integration is gone."))
    return row, overview.kind_of(row)


def frame(request: SignedInRequest, row: Integration, kind: IntegrationKind | None, tab: str) -> dict[str, Any]:
    """Return the context that every tab of an integration needs."""
    return {
        "integration": row,
        "kind": kind,
        "tab": tab,
        "may_change": may(request, Permission.ROUTING, row.group_id),
        "may_try": may(request, Permission.TRY_OUT, row.group_id),
    }


def _fits(kind: IntegrationKind, text: str, category: str) -> bool:
    words = f"{kind.title} {kind.description} {told(kind.title)} {told(kind.description)} {kind.name}".casefold()
    return all(one in words for one in text.casefold().split()) and (not category or str(kind.category) == category)


def _initial(request: SignedInRequest, kind: IntegrationKind) -> dict[str, Any]:
    policy = Policy.objects.first()
    taken = {name.casefold() for name in Integration.objects.values_list("name", flat=True)}
    name, number = kind.title, 2
    while name.casefold() in taken:
        name, number = f"{kind.title} {number}", number + 1
    # Without a policy, the user who adds the first integration is paged. If there is exactly one group, a policy's
    # roles can only be resolved in that group, so it is preselected.
    groups = list(Group.objects.values_list("pk", flat=True)[:2]) if policy else []
    users = [] if policy else [request.user.pk]
    return {"name": name, "policy": policy, "groups": groups if len(groups) == 1 else [], "users": users}
