"""Every page's address."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from tocsin.web.accounts import views as accounts
from tocsin.web.alerts import detail, views as alerts
from tocsin.web.home import views as home
from tocsin.web.inbound import views as inbound

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("alerts/", alerts.alert_list, name="alerts"),
    path("alerts/bulk", alerts.bulk, name="alerts_bulk"),
    path("alerts/open-count", alerts.open_count, name="open_count"),
    path("alerts/<int:number>/", detail.alert_page, name="alert"),
    path("alerts/<int:number>/<str:kind>", detail.command, name="alert_command"),
    path("inbound-log/", inbound.log, name="inbound_log"),
    path("inbound-log/<uuid:message_id>/", inbound.message, name="message"),
    path("setup/<str:token>", accounts.setup, name="setup"),
    path("welcome/<str:token>", accounts.welcome, name="welcome"),
    path("account/", include("allauth.urls")),
    path("api/v1/", include("tocsin.api.urls")),
]
