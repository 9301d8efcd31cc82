"""How Django's forms are drawn: each field with its label, help and errors beside it, in the look of the pages."""

from __future__ import annotations

from django.forms.renderers import TemplatesSetting


class FormRenderer(TemplatesSetting):
    """Fields and widgets come from the pages' own templates."""

    form_template_name = "parts/form.html"
    field_template_name = "parts/field.html"
