"""The Mapping, Rules and Routing tabs: rows beside a real payload and a preview of its outcome by the production code.

Each click or pause in typing posts the form, which is evaluated and rendered again. Only Save stores it. The tab can
also be edited as YAML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from queue import SimpleQueue
from threading import Thread
from typing import Any

from django.contrib import messages
from django.db import connection as django_connection
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.roles import Permission
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import commands, drafts, specs
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.expressions.fields import FIELDS, PRIORITIES, TAGS
from tocsin.inbound.models import Integration
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.payload_splitting import elements_of
from tocsin.simulate.backtest import Backtest, backtest
from tocsin.simulate.chain import SimulatedOutcome, simulate_door
from tocsin.web.http.authorization import actor, require
from tocsin.web.http.request import PART, SignedInRequest, page
from tocsin.web.integrations import payloads, simulation_view
from tocsin.web.integrations.editor import condition_form, yaml_text
from tocsin.web.integrations.editor.editor_tab import EditorTab
from tocsin.web.integrations.editor.mapping_tab import MappingTab
from tocsin.web.integrations.editor.match_preview import MatchPreview, findings_of
from tocsin.web.integrations.editor.payload_tree import PayloadTree, tree_of
from tocsin.web.integrations.editor.routing_tab import RoutingTab
from tocsin.web.integrations.editor.rules_tab import RulesTab
from tocsin.web.integrations.payloads import SamplePayload
from tocsin.web.integrations.views import find, frame
from tocsin.web.told import told
from tocsin.web.ui import edit_conflicts
from tocsin.web.ui.edit_conflicts import FormSnapshot

SHEETS: Mapping[str, type[EditorTab]] = {"mapping": MappingTab, "rules": RulesTab, "routing": RoutingTab}

#: Larger payloads can be tried from the log or the Test tab; here each keystroke would post them again.
MAX_PASTED_CHARS = 200_000


@dataclass(slots=True)
class EditorDraft:
    """The state of the editor: the rows, their YAML, and the outcome for the payload."""

    sheet: EditorTab
    payload: SamplePayload
    yaml: str = ""
    yaml_problem: str = ""
    #: Whether the YAML was edited since it was rendered, so that the rows are loaded from it.
    from_yaml: bool = False
    parts: dict[str, Any] | None = None
    door: CompiledIntegration | None = None
    outcome: SimulatedOutcome | None = None
    tree: PayloadTree | None = None
    payload_problem: str = ""
    findings: MatchPreview = field(default_factory=MatchPreview)
    backtest: Backtest | None = None
    asks_anyway: bool = False
    #: Edit conflict, shown above the rows because it belongs to none of them.
    overtaken: str = ""

    @property
    def yaml_was(self) -> str:
        """Digest of the rendered YAML, to detect whether the posted YAML was edited."""
        return _digest(self.yaml)


@require_http_methods(["GET", "HEAD", "POST"])
def bench(request: SignedInRequest, number: int, tab: str) -> HttpResponse:
    """Render a tab, refresh its preview while the user types, or save it."""
    row, kind = find(number)
    if kind is None:
        return page(request, "integrations/unknown.html", frame(request, row, kind, tab))
    if request.method == "POST":
        require(request, Permission.ROUTING, row.group_id)
    names = specs.names()
    do = _pressed(request)
    sheet = SHEETS[tab](kind)
    sheet.is_final = do == "save"
    draft = _draft(request, row, kind, sheet, names)
    seen = FormSnapshot.of(request, "integration", row, commands.integration_spec, keys=sheet.keys)
    if do == "save" and draft.door is not None and _save(request, row, draft, seen):
        messages.success(request, _("Saved. Messages from now on are decided by this."))
        return redirect(f"integration_{tab}", number)
    if do == "backtest" and draft.door is not None and draft.parts is not None:
        draft.backtest = backtest(row, draft.parts)
    context = {
        **frame(request, row, kind, tab),
        "draft": draft,
        "seen": seen,
        "sheet": draft.sheet,
        "chosen": draft.payload.key,
        "target": str(request.POST.get("target", "")),
        "payloads": payloads.groups(row, kind),
        "shown": simulation_view.shown([draft.outcome] if draft.outcome else []),
        "sheet_template": f"integrations/sheet_{tab}.html",
        "oob": bool(request.headers.get(PART)) and request.headers.get(PART) == "preview",
        "fields": _fields(kind, draft),
        "words": condition_form.words(),
        "tags_offered": TAGS,
        **_routing_choices(names),
    }
    # With JavaScript the response is swapped into the document even if it contains errors.
    failed = do == "save"
    return page(request, "integrations/bench.html", context, parts=("preview", "whole"), status=422 if failed else 200)


@require_POST
def tries(request: SignedInRequest, number: int, tab: str) -> HttpResponseBase:
    """Stream the effect on recent messages: progress lines "done all" at intervals, finally the result."""
    row, kind = find(number)
    if kind is None or tab not in SHEETS:
        raise Http404
    require(request, Permission.ROUTING, row.group_id)
    draft = _draft(request, row, kind, SHEETS[tab](kind), specs.names())
    # The lines are generated after the middleware has reset the user's time zone and language.
    shown_in = timezone.get_current_timezone(), translation.get_language()
    return StreamingHttpResponse(_steps(request, row, draft, *shown_in), content_type="text/html; charset=utf-8")


def _steps(
    request: SignedInRequest, row: Integration, draft: EditorDraft, zone: tzinfo, language: str | None
) -> Iterator[str]:
    told: SimpleQueue[tuple[int, int] | None] = SimpleQueue()

    def work() -> None:
        try:
            if draft.door is not None and draft.parts is not None:
                draft.backtest = backtest(row, draft.parts, progress=lambda done, whole: told.put((done, whole)))
        finally:
            told.put(None)
            django_connection.close()

    worker = Thread(target=work, name="backtest", daemon=True)
    worker.start()
    while (step := told.get()) is not None:
        yield f"{step[0]} {step[1]}\n"
    worker.join()
    with timezone.override(zone), translation.override(language or "en"):
        context = {"found": draft.backtest, "refused": draft.backtest is None}
        yield render_to_string("integrations/backtest.html", context, request)


def _draft(
    request: SignedInRequest, row: Integration, kind: IntegrationKind, sheet: EditorTab, names: ReferenceNames
) -> EditorDraft:
    post = request.POST
    if request.method != "POST":
        draft = EditorDraft(sheet, payloads.asked(row, kind, request.GET.get("message", "")))
        sheet.fill(drafts.parts_of(row, names))
    else:
        draft = EditorDraft(sheet, payloads.NONE)
        _put_payload(request, row, kind, draft)
        draft.yaml = str(post.get("yaml", "")).replace("\r\n", "\n")
        draft.from_yaml = "yaml" in post and _digest(draft.yaml) != post.get("yaml_was")
        _take(draft, request)
    if not draft.yaml_problem:
        draft.parts = sheet.parts()
    if draft.parts is not None and not draft.from_yaml:
        draft.yaml = yaml_text.write(_without_empty(draft.parts))
    _try(request, row, names, draft)
    return draft


def _take(draft: EditorDraft, request: SignedInRequest) -> None:
    """Load the rows from the YAML if it was edited, else from the form fields; then apply the button."""
    sheet, post = draft.sheet, request.POST
    try:
        if draft.from_yaml:
            sheet.fill(_parts_in(draft.yaml, sheet))
        else:
            sheet.read(post)
        sheet.act(_steps_of(request))
    except Rejected as rejected:
        draft.yaml_problem = rejected.detail
        if draft.from_yaml:
            sheet.read(post)


def _pressed(request: SignedInRequest) -> str:
    """Return the pressed button. A preview request still contains the previous button, which was already applied."""
    return "" if request.headers.get(PART) == "preview" else str(request.POST.get("do", ""))


def _steps_of(request: SignedInRequest) -> list[str]:
    do = _pressed(request)
    if do.startswith("pick:"):
        return ["pick", str(request.POST.get("target", "")), do.removeprefix("pick:")]
    return do.split(":")


def _parts_in(text: str, sheet: EditorTab) -> dict[str, Any]:
    found = yaml_text.read(text, "yaml")
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not found.keys() <= set(sheet.keys):
        raise Rejected("invalid", _("Write %(keys)s.") % {"keys": ", ".join(f"{key}: …" for key in sheet.keys)})
    return dict(found)


def _try(request: SignedInRequest, row: Integration, names: ReferenceNames, draft: EditorDraft) -> None:
    """Compile the parts as Save would, and evaluate the payload with them."""
    payload = draft.payload
    element: Element | None = None
    try:
        elements = elements_of(draft.sheet.kind, payload.body, payload.content_type or None).elements
        element = elements[0] if elements and elements[0].payload is not None else None
        draft.tree = tree_of(element.payload) if element is not None else None
    except Rejected as rejected:
        draft.payload_problem = draft.payload_problem or rejected.detail
    if draft.parts is None:
        return
    try:
        draft.door = drafts.compile_draft(row, draft.parts, names)
    except Rejected as rejected:
        draft.sheet.refuse(rejected)
        return
    found = simulate_door(draft.door, payload.body, payload.content_type, request.now, most=1)
    draft.outcome = found.outcomes[0] if found.outcomes else None
    if element is not None:
        draft.findings = findings_of(draft.door, element, draft.outcome, draft.sheet)


def _put_payload(request: SignedInRequest, row: Integration, kind: IntegrationKind, draft: EditorDraft) -> None:
    pasted = str(request.POST.get("payload", ""))
    draft.payload = payloads.chosen(row, kind, str(request.POST.get("chosen", "")), pasted)
    if draft.payload.key == payloads.PASTED and len(draft.payload.body) > MAX_PASTED_CHARS:
        draft.payload = SamplePayload(payloads.PASTED, draft.payload.label, b"")
        draft.payload_problem = _(
            "This is larger than %(size)d kB: try it in the Test tab, or post it and choose it from the log."
        ) % {"size": MAX_PASTED_CHARS // 1000}


def _save(request: SignedInRequest, row: Integration, draft: EditorDraft, seen: FormSnapshot) -> bool:
    assert draft.parts is not None
    try:
        with seen.unchanged():
            spec = commands.integration_spec(row) | ({"anyway": True} if "anyway" in request.POST else {})
            commands.save_integration({**spec, **draft.parts}, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        if rejected.code == edit_conflicts.CHANGED:
            draft.overtaken = rejected.detail
            return False
        draft.asks_anyway = rejected.code == "reaches_nobody"
        draft.sheet.refuse(rejected)
        return False
    return True


def _fields(kind: IntegrationKind, draft: EditorDraft) -> list[tuple[str, str]]:
    """Return (name, label) of the fields that a condition can use."""
    known = draft.door.reader.mapping.names if draft.door is not None else frozenset(kind.mapping) & FIELDS.keys()
    named = [(name, told(FIELDS[name].label)) for name in FIELDS if name in known]
    return [*named, *((name, name) for name in sorted(known - FIELDS.keys()))]


def _routing_choices(names: ReferenceNames) -> dict[str, list[str]]:
    return {
        "priorities": list(PRIORITIES),
        "policies": sorted(names.policies.values(), key=str.casefold),
        "hours": sorted(names.hours.values(), key=str.casefold),
        "user_names": sorted(names.users.values(), key=str.casefold),
        "group_names": sorted(names.groups.values(), key=str.casefold),
    }


def _without_empty(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if value not in (None, {}, [], "")}


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]
