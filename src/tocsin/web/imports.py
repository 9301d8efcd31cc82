"""Importing the configuration of another product."""

from __future__ import annotations

from collections.abc import Callable

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as gettext
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.configure.models import ImportRun, ImportState
from tocsin.core.reasons import reason_from_json
from tocsin.importers import import_runs
from tocsin.importers.config_builder import ImportFinding
from tocsin.importers.import_runs import PRODUCTS
from tocsin.web.http.request import SignedInRequest, actor, download, render_view, requires
from tocsin.web.ui.forms import rejections_shown

_NO_AUTOFILL = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}


class ImportForm(forms.Form):
    product = forms.ChoiceField(
        label=_("From"),
        choices=[(product.name, product.title) for product in PRODUCTS.values()],
        widget=forms.RadioSelect,
        initial="opsgenie",
    )
    key = forms.CharField(
        label=_("API key"),
        max_length=4096,
        required=False,
        widget=forms.PasswordInput(attrs={**_NO_AUTOFILL, "autocomplete": "new-password"}),
        help_text=_("Used once for reading, and never stored."),
    )
    api_base = forms.CharField(
        label=_("API URL"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**_NO_AUTOFILL, "inputmode": "url"}),
        help_text=_("Empty: the default. EU accounts and Grafana OnCall have their own URL."),
    )
    file = forms.FileField(
        label=_("Or an Opsgenie export"),
        required=False,
        help_text=_("A ZIP of the OpsGenieBackups folder, or JSON, up to 5 MB. Use the command line for larger files."),
    )
    with_keys = forms.BooleanField(
        label=_("Keep senders' keys if available"),
        required=False,
        help_text=_(
            "Senders then only need the new URL. PagerDuty returns its keys; Opsgenie includes them in some exports."
        ),
    )


_RUNNING = (ImportState.READING, ImportState.APPLYING)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def imports(request: SignedInRequest) -> HttpResponse:
    """Render the current import and the form that starts one."""
    form = ImportForm(request.POST or None, request.FILES or None)
    if product := request.POST.get("sample"):
        with rejections_shown(request):
            import_runs.start(product, is_sample=True, actor=actor(request), now=request.now)
        return redirect("imports")
    if request.method == "POST" and form.is_valid() and _start_import(request, form):
        return redirect("imports")
    run = import_runs.latest_run(request.now)
    context = {
        "form": form,
        "run": run,
        "title": PRODUCTS[run.product].title if run is not None and run.product in PRODUCTS else "",
        "is_running": run is not None and run.state in _RUNNING,
        "products": PRODUCTS.values(),
        "samples": [PRODUCTS[name] for name in import_runs.sample_products()],
        "counts": _counts(run.counts) if run is not None else [],
        "findings": [ImportFinding.from_json(stored) for stored in run.findings] if run is not None else [],
        "refusals": [reason_from_json(stored) for stored in run.refusals] if run is not None else [],
    }
    return render_view(request, "imports/imports.html", context, partials=("run",), status=422 if form.errors else 200)


@require_safe
@requires(Permission.ADMINISTER)
def configuration(request: SignedInRequest, number: int) -> HttpResponse:
    text = import_runs.decrypted_yaml(_find(request, number))
    if not text:
        raise Http404
    return _file(text, "tocsin-import.yaml", "application/yaml")


@require_safe
@requires(Permission.ADMINISTER)
def report(request: SignedInRequest, number: int) -> HttpResponse:
    findings = [ImportFinding.from_json(stored) for stored in _find(request, number).findings]
    return _file("".join(f"{finding}\n" for finding in findings), "tocsin-import-report.txt", "text/plain")


@require_POST
@requires(Permission.ADMINISTER)
def apply(request: SignedInRequest, number: int) -> HttpResponse:
    with rejections_shown(request):
        import_runs.apply(_find(request, number), actor=actor(request), now=request.now)
    return redirect("imports")


@require_POST
@requires(Permission.ADMINISTER)
def discard(request: SignedInRequest, number: int) -> HttpResponse:
    import_runs.discard(_find(request, number))
    messages.success(request, gettext("Import discarded. Nothing was changed."))
    return redirect("imports")


def _counts(counts: dict[str, int]) -> list[str]:
    """Return the number of objects of each type in words, in the order of the file."""
    formatters: dict[str, Callable[[int], str]] = {
        "users": lambda n: ngettext("%(n)s user", "%(n)s users", n),
        "groups": lambda n: ngettext("%(n)s group", "%(n)s groups", n),
        "schedules": lambda n: ngettext("%(n)s schedule", "%(n)s schedules", n),
        "support_hours": lambda n: ngettext("%(n)s set of support hours", "%(n)s sets of support hours", n),
        "escalation_policies": lambda n: ngettext("%(n)s escalation policy", "%(n)s escalation policies", n),
        "integrations": lambda n: ngettext("%(n)s integration", "%(n)s integrations", n),
        "maintenance_windows": lambda n: ngettext("%(n)s maintenance window", "%(n)s maintenance windows", n),
    }
    return [formatter(counts[key]) % {"n": counts[key]} for key, formatter in formatters.items() if counts.get(key)]


def _start_import(request: SignedInRequest, form: ImportForm) -> bool:
    data, file = form.cleaned_data, form.cleaned_data["file"]
    with rejections_shown(form):
        import_runs.start(
            data["product"],
            key=data["key"],
            base=data["api_base"],
            export_content=file.read() if file else None,
            file_name=file.name if file else "",
            with_keys=data["with_keys"],
            actor=actor(request),
            now=request.now,
        )
        return True
    return False


def _find(request: SignedInRequest, number: int) -> ImportRun:
    run = import_runs.latest_run(request.now)
    if run is None or run.pk != number:
        raise Http404
    return run


def _file(text: str, name: str, content_type: str) -> HttpResponse:
    response = download(text, name, content_type)
    response["Cache-Control"] = "no-store"
    return response
