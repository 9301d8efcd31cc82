"""URLs under /scim/v2/. One view handles them all, so that every answer has SCIM's form."""

from __future__ import annotations

from django.urls import path, re_path

from tocsin.api.scim import views

app_name = "scim"
urlpatterns = [path("", views.scim), re_path(r"^(?P<address>.+)$", views.scim, name="resource")]
