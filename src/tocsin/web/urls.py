"""Every page's address."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from tocsin.web.accounts import views as accounts
from tocsin.web.alerts import detail
from tocsin.web.alerts import views as alerts
from tocsin.web.home import views as home
from tocsin.web.inbound import views as inbound
from tocsin.web.integrations import tabs
from tocsin.web.integrations import views as integrations

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("alerts/", alerts.alert_list, name="alerts"),
    path("alerts/bulk", alerts.bulk, name="alerts_bulk"),
    path("alerts/open-count", alerts.open_count, name="open_count"),
    path("alerts/<int:number>/", detail.alert_page, name="alert"),
    path("alerts/<int:number>/<str:kind>", detail.command, name="alert_command"),
    path("inbound-log/", inbound.log, name="inbound_log"),
    path("inbound-log/<uuid:message_id>/", inbound.message, name="message"),
    path("integrations/", integrations.integration_list, name="integrations"),
    path("integrations/add/", integrations.catalogue, name="catalogue"),
    path("integrations/add/<slug:kind_name>/", integrations.add, name="add_integration"),
    path("integrations/<int:number>/", integrations.integration, name="integration"),
    path("integrations/<int:number>/status", integrations.set_status, name="integration_status"),
    *(
        path(f"integrations/<int:number>/{tab}/", tabs.definition, {"tab": tab}, name=f"integration_{tab}")
        for tab in ("mapping", "rules", "routing")
    ),
    path("integrations/<int:number>/settings/", tabs.settings, name="integration_settings"),
    path("integrations/<int:number>/test/", tabs.test, name="integration_test"),
    path("integrations/<int:number>/security/", tabs.security, name="integration_security"),
    path("integrations/<int:number>/guide/", tabs.guide, name="integration_guide"),
    path("integrations/<int:number>/delete/", tabs.delete, name="integration_delete"),
    path("setup/<str:token>", accounts.setup, name="setup"),
    path("welcome/<str:token>", accounts.welcome, name="welcome"),
    path("account/", include("allauth.urls")),
    path("api/v1/", include("tocsin.api.urls")),
]
