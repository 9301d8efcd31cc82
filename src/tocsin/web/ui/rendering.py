"""Renders Django forms with the interface's own templates: label, help text and errors beside each field."""

from __future__ import annotations

from django.forms.renderers import TemplatesSetting


class FormRenderer(TemplatesSetting):
    """Takes field and widget templates from the project's template directories."""

    form_template_name = "parts/form.html"
    field_template_name = "parts/field.html"
