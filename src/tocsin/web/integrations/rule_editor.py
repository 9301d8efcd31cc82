"""The Mapping, Rules and Routing tabs: rows beside a real payload and a preview of its outcome by the production code.

Each click or pause in typing posts the form, which is evaluated and rendered again. Only Save stores it. The tab can
also be edited as YAML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Any

import re2
from django.contrib import messages
from django.db import connection as django_connection
from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from tocsin.access.roles import Permission
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, as_reason, local_term
from tocsin.core.validation.inputs import compile_path, join_path, read_path, sanitize
from tocsin.inbound.admin import commands, specs
from tocsin.inbound.conditions import compile_condition, texts_of
from tocsin.inbound.config.compiled_integration import CompiledIntegration, ReferenceNames
from tocsin.inbound.fields import FIELDS, PRIORITIES, TAGS, MappedFields, text_of
from tocsin.inbound.inspect import explain
from tocsin.inbound.models import Integration
from tocsin.inbound.parsing.decode import Element, elements_of
from tocsin.inbound.storage.messages import MAX_VALUES, TOO_MANY_VALUES, has_too_many_values
from tocsin.people.models import User
from tocsin.resources.registry import INTEGRATIONS
from tocsin.simulate.backtest import Backtest, backtest
from tocsin.simulate.chain import SimulatedOutcome, simulate_integration
from tocsin.web.http.request import PARTIAL_HEADER, SignedInRequest, actor, render_view, require
from tocsin.web.integrations import condition_form, views
from tocsin.web.integrations.condition_form import ComparisonRow, ConditionGroup, ErrorPlaces
from tocsin.web.integrations.editor_tab import EditorTab, MappingTab, RoutingTab, RuleMode, RulesTab
from tocsin.web.integrations.views import SamplePayload, SaveReview, find, frame, review_change, saved_message
from tocsin.web.ui import confirm_delete
from tocsin.web.ui.confirm_delete import FormSnapshot

# ---------- payload tree
# Renders a payload as lines of a tree, each value with its path. Pure.
#
# Large payloads are cut. Values beyond the cut can still be mapped by writing their path.

#: Limits: lines, nesting depth, and characters of one value.
MAX_TREE_LINES, MAX_TREE_DEPTH, MAX_VALUE_CHARS = 400, 12, 80

#: Maximum number of list entries; the others usually have the same shape.
_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line. `path` is None for closing brackets and for values that no path can address."""

    depth: int
    key: str
    text: str
    path: str | None = None
    is_value: bool = False
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class PayloadTree:
    """The lines, and whether the tree was cut."""

    lines: tuple[TreeLine, ...]
    is_cut: bool


def tree_of(payload: object) -> PayloadTree:
    lines = list(islice(_lines(payload, "", (), 0), MAX_TREE_LINES + 1))
    return PayloadTree(tuple(lines[:MAX_TREE_LINES]), len(lines) > MAX_TREE_LINES)


def _lines(value: object, key: str, path: tuple[str | int, ...], depth: int) -> Iterator[TreeLine]:
    indent = min(depth, MAX_TREE_DEPTH)
    if isinstance(value, dict | list) and value:
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        if depth > MAX_TREE_DEPTH:
            yield TreeLine(indent, key, f"{opening}…{closing}", join_path(path))
            return
        yield TreeLine(indent, key, opening, join_path(path) if path else None)
        entries: Iterator[tuple[str | int, object]] = iter(
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        for number, (name, inner) in enumerate(entries):
            if isinstance(value, list) and number >= _ENTRIES:
                yield TreeLine(min(indent + 1, MAX_TREE_DEPTH), "", f"… {len(value) - _ENTRIES} more")
                break
            label = sanitize(str(name))[:MAX_VALUE_CHARS]
            yield from _lines(inner, label, (*path, name), depth + 1)
        yield TreeLine(indent, "", closing)
        return
    yield TreeLine(indent, key, _format_value(value), join_path(path), True, isinstance(value, str))


def _format_value(value: object) -> str:
    if isinstance(value, str):
        text = sanitize(value[: MAX_VALUE_CHARS * 2]).replace("\n", "⏎")
        return f'"{text[:MAX_VALUE_CHARS]}{"…" if len(value) > MAX_VALUE_CHARS else ""}"'
    if value is None:
        return "null"
    return text_of(value) or ("{}" if isinstance(value, dict) else "[]")


# ---------- match preview
# Previews each row against the payload: field values, comparison results and pattern matches. Pure.

#: Maximum number of characters shown around a pattern match.
_MAX_VALUE_CHARS = 200


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """The result of one comparison. `pieces` is the text, split into (piece, matched)."""

    is_true: bool
    reason: Reason
    pieces: tuple[tuple[str, bool], ...] = ()


@dataclass(slots=True)
class MatchPreview:
    """Per row: the value of a field (None without a value), and the result of a comparison, rule or route."""

    values: dict[str, str | None] = field(default_factory=dict)
    results: dict[str, ComparisonResult] = field(default_factory=dict)


def preview_matches(
    integration: CompiledIntegration, element: Element, outcome: SimulatedOutcome | None, tab: EditorTab
) -> MatchPreview:
    """Evaluate all rows of a tab against the payload."""
    preview = MatchPreview()
    if element.payload is None:
        return preview
    mapped = integration.normalizer.map_completely(element)
    if isinstance(tab, MappingTab):
        _values(preview, outcome, tab)
    for prefix, group in _groups(tab):
        for row, comparison in condition_form.comparisons(group, prefix):
            if isinstance(comparison, ComparisonRow):
                result = _evaluate(comparison, element.payload, mapped, integration.normalizer.mapping.names)
                if result is not None:
                    preview.results[row] = result
    return preview


def _values(preview: MatchPreview, outcome: SimulatedOutcome | None, tab: MappingTab) -> None:
    trace = outcome.trace if outcome is not None else None
    if trace is None:
        return
    preview.values |= {f"f-{field_trace.field}": field_trace.value for field_trace in trace.fields}
    for traces, rows in ((trace.tags, tab.tag_rows()), (trace.custom, tab.custom_rows())):
        values = {field_trace.field: field_trace.value for field_trace in traces}
        preview.values |= {row.prefix: values.get(row.name) for row in rows}
    preview.values["key"] = preview.values.get("f-dedup_key")


def _groups(tab: EditorTab) -> Iterator[tuple[str, ConditionGroup]]:
    if isinstance(tab, RulesTab):
        yield from ((name, group) for name, group in tab.groups.items() if tab.modes[name] is RuleMode.WHEN)
    elif isinstance(tab, RoutingTab):
        yield from ((f"routes.{number}.when", route.when) for number, route in enumerate(tab.routes))


def _evaluate(
    comparison: ComparisonRow, payload: object, mapped: MappedFields, names: frozenset[str]
) -> ComparisonResult | None:
    try:
        condition = condition_form.condition_of(ConditionGroup((comparison,)), "condition", "", ErrorPlaces())
        compiled = compile_condition(condition, "condition", names)
    except Rejected:
        return None
    result = compiled.evaluate(payload, mapped)
    texts = _texts(comparison.field.strip(), payload, mapped, names) if "matches" in comparison.operator else ()
    return ComparisonResult(result.is_true, result.reason, _pieces(comparison, texts))


def _texts(name: str, payload: object, mapped: MappedFields, names: frozenset[str]) -> tuple[str, ...]:
    if name in names:
        return texts_of(mapped.values.get(name) or mapped.custom.get(name) or mapped.tags.get(name))
    return texts_of(compile_path(name.removeprefix("^"), "field").read(payload))


def _pieces(comparison: ComparisonRow, texts: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = comparison.match_case
    for pattern in (line for line in comparison.values.split("\n") if line):
        compiled = re2.compile(pattern, options)  # type: ignore[no-untyped-call] # valid: the condition compiled
        for text in texts:
            match = compiled.search(text)
            if match is not None:
                begin, end = match.span()
                before, after = text[:begin][-_MAX_VALUE_CHARS:], text[end:][:_MAX_VALUE_CHARS]
                return ((before, False), (text[begin:end][:_MAX_VALUE_CHARS], True), (after, False))
    return ()


TABS: Mapping[str, type[EditorTab]] = {"mapping": MappingTab, "rules": RulesTab, "routing": RoutingTab}

#: Fields of the form that are not rows.
_NOT_IN_ROWS = ("csrfmiddlewaretoken", "snapshot", "chosen", "payload", "yaml", "yaml_digest", "undo", "reviewed", "do")

#: Larger payloads can be tried from the log or the Test tab; here each keystroke would post them again.
MAX_PASTED_CHARS = 200_000


@dataclass(slots=True)
class EditorDraft:
    """The state of the editor: the rows, their YAML, and the outcome for the payload."""

    tab: EditorTab
    payload: SamplePayload
    yaml: str = ""
    yaml_problem: str = ""
    #: Whether the YAML was edited since it was rendered, so that the rows are loaded from it.
    is_yaml_edited: bool = False
    element: Element | None = None
    parts: dict[str, Any] | None = None
    compiled: CompiledIntegration | None = None
    outcome: SimulatedOutcome | None = None
    tree: PayloadTree | None = None
    payload_problem: str = ""
    matches: MatchPreview = field(default_factory=MatchPreview)
    backtest: Backtest | None = None
    #: What the button changed, and the form before that, to undo it.
    change: str = ""
    undo: str = ""
    #: What saving would change, to be confirmed first.
    review: SaveReview | None = None
    needs_confirmation: bool = False
    #: Whether a link filled in something that is not saved yet.
    is_prefilled: bool = False
    #: Edit conflict, shown above the rows because it belongs to none of them.
    conflict: str = ""

    @property
    def yaml_digest(self) -> str:
        """Digest of the rendered YAML, to detect whether the posted YAML was edited."""
        return _digest(self.yaml)


@require_http_methods(["GET", "HEAD", "POST"])
def editor(request: SignedInRequest, number: int, tab: str) -> HttpResponse:
    """Render a tab, refresh its preview while the user types, or save it."""
    row, kind = find(number)
    if kind is None:
        return render_view(request, "integrations/unknown.html", frame(request, row, kind, tab))
    if request.method == "POST":
        require(request, Permission.MANAGE_ROUTING, row.group_id)
    names = specs.load_reference_names()
    button = _pressed_button(request)
    editor_tab = TABS[tab](kind)
    editor_tab.is_final = button == "save"
    draft = _draft(request, row, kind, editor_tab, names)
    snapshot = FormSnapshot.of(request, INTEGRATIONS, row, keys=editor_tab.keys)
    if button == "save" and draft.compiled is not None and draft.parts is not None:
        draft.review = review_change(request, row, draft.parts)
    if button == "save" and draft.compiled is not None and not draft.review and _save(request, row, draft, snapshot):
        messages.success(request, saved_message(request))
        return redirect(f"integration_{tab}", number)
    if button == "backtest" and draft.compiled is not None and draft.parts is not None:
        draft.backtest = backtest(row, draft.parts)
    context = {
        **frame(request, row, kind, tab),
        "draft": draft,
        "snapshot": snapshot,
        "editor_tab": draft.tab,
        "chosen": draft.payload.key,
        "payloads": views.groups(row, kind),
        "outcome_views": views.outcome_views([draft.outcome] if draft.outcome else []),
        "tab_template": f"integrations/tab_{tab}.html",
        "oob": bool(request.headers.get(PARTIAL_HEADER)) and request.headers.get(PARTIAL_HEADER) == "preview",
        "fields": _fields(kind, draft),
        "words": condition_form.operator_choices(),
        "tag_choices": TAGS,
        **(_routing_choices(row, names) if tab == "routing" else {}),
    }
    # With JavaScript the response is swapped into the document even if it contains errors.
    failed = button == "save" and draft.review is None
    return render_view(
        request, "integrations/editor.html", context, partials=("preview", "editor"), status=422 if failed else 200
    )


@require_POST
def stream_backtest(request: SignedInRequest, number: int, tab: str) -> HttpResponseBase:
    """Stream the effect on recent messages: progress lines "done all" at intervals, finally the result."""
    row, kind = find(number)
    if kind is None or tab not in TABS:
        raise Http404
    require(request, Permission.MANAGE_ROUTING, row.group_id)
    draft = _draft(request, row, kind, TABS[tab](kind), specs.load_reference_names())
    # The lines are generated after the middleware has reset the user's time zone and language.
    display_settings = timezone.get_current_timezone(), translation.get_language()
    return StreamingHttpResponse(
        _backtest_lines(request, row, draft, *display_settings), content_type="text/html; charset=utf-8"
    )


def _backtest_lines(
    request: SignedInRequest, row: Integration, draft: EditorDraft, zone: tzinfo, language: str | None
) -> Iterator[str]:
    progress: SimpleQueue[tuple[int, int] | None] = SimpleQueue()

    def work() -> None:
        try:
            if draft.compiled is not None and draft.parts is not None:
                draft.backtest = backtest(row, draft.parts, progress=lambda done, total: progress.put((done, total)))
        finally:
            progress.put(None)
            django_connection.close()

    worker = Thread(target=work, name="backtest", daemon=True)
    worker.start()
    while (counts := progress.get()) is not None:
        yield f"{counts[0]} {counts[1]}\n"
    worker.join()
    with timezone.override(zone), translation.override(language or "en"):
        context = {"backtest": draft.backtest, "is_rejected": draft.backtest is None}
        yield render_to_string("integrations/backtest.html", context, request)


def _draft(
    request: SignedInRequest, row: Integration, kind: IntegrationKind, editor_tab: EditorTab, names: ReferenceNames
) -> EditorDraft:
    post = request.POST
    if request.method != "POST":
        draft = EditorDraft(editor_tab, views.message_payload_or_default(row, kind, request.GET.get("message", "")))
        _load_element(draft)
        editor_tab.load(commands.parts_of(row, names))
        draft.is_prefilled = editor_tab.prefill(request.GET)
    else:
        draft = EditorDraft(editor_tab, views.NO_PAYLOAD)
        _load_payload(request, row, kind, draft)
        _load_element(draft)
        draft.yaml = str(post.get("yaml", "")).replace("\r\n", "\n")
        draft.is_yaml_edited = "yaml" in post and _digest(draft.yaml) != post.get("yaml_digest")
        _load_rows(draft, request, row)
    if not draft.yaml_problem:
        draft.parts = editor_tab.parts()
    if draft.parts is not None and not draft.is_yaml_edited:
        set_parts = {key: part for key, part in draft.parts.items() if part not in (None, {}, [], "")}
        draft.yaml = condition_form.write(set_parts)
    _simulate(request, row, names, draft)
    return draft


def _load_rows(draft: EditorDraft, request: SignedInRequest, row: Integration) -> None:
    """Load the rows from the YAML if it was edited, else from the form fields; then apply the button."""
    editor_tab, post, button = draft.tab, request.POST, _pressed_button(request)
    editor_tab.target = str(post.get("target", ""))
    try:
        if button == "undo":
            draft.is_yaml_edited = False
            editor_tab.read(QueryDict(str(post.get("undo", ""))))
        elif draft.is_yaml_edited:
            editor_tab.load(_parse_parts(draft.yaml, editor_tab))
        else:
            editor_tab.read(post)
        if button.startswith("pick:"):
            path = button.removeprefix("pick:")
            draft.change = editor_tab.pick(path, _comparison_at(draft, row, path))
        else:
            draft.change = editor_tab.apply_action(button.split(":"))
        if draft.change and not draft.is_yaml_edited:
            draft.undo = _rows_in(post)
    except Rejected as rejected:
        draft.yaml_problem = rejected.reason.localized()
        if draft.is_yaml_edited:
            editor_tab.read(post)


def _pressed_button(request: SignedInRequest) -> str:
    """Return the pressed button. A preview request still contains the previous button, which was already applied."""
    return "" if request.headers.get(PARTIAL_HEADER) == "preview" else str(request.POST.get("do", ""))


def _rows_in(post: QueryDict) -> str:
    """Return the posted rows, URL-encoded, without the rest of the form."""
    rows = post.copy()
    for name in _NOT_IN_ROWS:
        rows.pop(name, None)
    return rows.urlencode()


def _comparison_at(draft: EditorDraft, row: Integration, path: str) -> ComparisonRow:
    """Return the comparison that is true for the payload value at `path`: of the alert field that is read from there,
    or of the path itself."""
    if draft.element is None:
        return condition_form.comparison_with(path, None)
    normalizer = commands.compile_stored(row).normalizer
    for field_trace in explain(normalizer, draft.element).fields:
        if field_trace.value is not None and field_trace.steps[-1].source == path:
            return condition_form.comparison_with(field_trace.field, field_trace.value)
    # "^" marks a path that is also the name of a field.
    name = f"^{path}" if path in normalizer.mapping.names else path
    return condition_form.comparison_with(name, read_path(draft.element.payload, path))


def _parse_parts(text: str, editor_tab: EditorTab) -> dict[str, Any]:
    value = condition_form.read(text, "yaml")
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not value.keys() <= set(editor_tab.keys):
        raise Rejected(
            "invalid",
            as_reason(_("Use the keys %(keys)s.") % {"keys": ", ".join(f"{key}: …" for key in editor_tab.keys)}),
        )
    return dict(value)


def _simulate(request: SignedInRequest, row: Integration, names: ReferenceNames, draft: EditorDraft) -> None:
    """Compile the parts as Save would, and evaluate the payload with them."""
    payload = draft.payload
    if draft.parts is None:
        return
    try:
        draft.compiled = commands.compile_draft(row, draft.parts, names)
    except Rejected as rejected:
        draft.tab.add_errors(rejected)
        return
    simulation = simulate_integration(draft.compiled, payload.body, payload.content_type, request.now, limit=1)
    draft.outcome = simulation.outcomes[0] if simulation.outcomes else None
    if draft.element is not None:
        draft.matches = preview_matches(draft.compiled, draft.element, draft.outcome, draft.tab)


def _load_payload(request: SignedInRequest, row: Integration, kind: IntegrationKind, draft: EditorDraft) -> None:
    pasted = str(request.POST.get("payload", ""))
    draft.payload = views.find_payload(row, kind, str(request.POST.get("chosen", "")), pasted)
    if draft.payload.key == views.PASTED and len(draft.payload.body) > MAX_PASTED_CHARS:
        draft.payload = SamplePayload(views.PASTED, draft.payload.label, b"")
        draft.payload_problem = _(
            "Larger than %(size)d kB. Use the Test tab, or post it and select it from the log."
        ) % {"size": MAX_PASTED_CHARS // 1000}


def _load_element(draft: EditorDraft) -> None:
    payload = draft.payload
    try:
        elements = elements_of(draft.tab.kind, payload.body, payload.content_type or None).elements
    except Rejected as rejected:
        draft.payload_problem = draft.payload_problem or rejected.reason.localized()
        return
    if elements and has_too_many_values(elements[0]):
        draft.payload_problem = draft.payload_problem or TOO_MANY_VALUES(values=MAX_VALUES).localized()
        return
    draft.element = elements[0] if elements and elements[0].payload is not None else None
    draft.tree = tree_of(draft.element.payload) if draft.element is not None else None


def _save(request: SignedInRequest, row: Integration, draft: EditorDraft, snapshot: FormSnapshot) -> bool:
    assert draft.parts is not None
    try:
        with snapshot.unchanged():
            spec = commands.integration_spec(row) | ({"anyway": True} if "anyway" in request.POST else {})
            commands.save_integration({**spec, **draft.parts}, existing=row, actor=actor(request), now=request.now)
    except Rejected as rejected:
        if rejected.code == confirm_delete.CHANGED:
            draft.conflict = rejected.reason.localized()
            return False
        draft.needs_confirmation = rejected.code == "reaches_nobody"
        draft.tab.add_errors(rejected)
        return False
    return True


def _fields(kind: IntegrationKind, draft: EditorDraft) -> list[tuple[str, str]]:
    compiled = draft.compiled
    field_names = compiled.normalizer.mapping.names if compiled else frozenset(kind.mapping) & FIELDS.keys()
    labelled = [(name, local_term(FIELDS[name].label)) for name in FIELDS if name in field_names]
    return [*labelled, *((name, name) for name in sorted(field_names - FIELDS.keys()))]


def _routing_choices(row: Integration, names: ReferenceNames) -> dict[str, Any]:
    """Return what a route can select, and the integration's own recipients."""

    def by_name(users: Iterable[User]) -> list[User]:
        return sorted(users, key=lambda user: user.display_name.casefold())

    hours = sorted(names.hours.values(), key=str.casefold)
    return {
        "priorities": PRIORITIES,
        "policies": sorted(names.policies.values(), key=str.casefold),
        "hours": hours,
        "during_choices": [
            choice
            for name in hours
            for choice in (
                (f"in:{name}", _("during %(hours)s") % {"hours": name}),
                (f"out:{name}", _("outside %(hours)s") % {"hours": name}),
            )
        ],
        "tables": sorted(names.tables.values(), key=str.casefold),
        "user_labels": {user.username: user.display_name for user in by_name(User.objects.filter(is_active=True))},
        "group_labels": {name: name for name in sorted(names.groups.values(), key=str.casefold)},
        "own_users": ", ".join(user.display_name for user in by_name(row.recipient_users.all())),
        "own_groups": ", ".join(sorted((group.name for group in row.recipient_groups.all()), key=str.casefold)),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]
