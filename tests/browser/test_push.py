"""A browser subscribes, a push is shown with its buttons, a button answers, and a tap opens the alert.

Chromium's own push service is out of reach here: the subscription is a double's, and what it would deliver is handed to
the service worker by the DevTools protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.browser.test_every_page import sign_in
from tests.browser.test_live_pages import _WORKER_IS_IN_CHARGE
from tests.doubles.push import PushDouble, push_double
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.installation import until
from tests.support.server_process import PATIENCE, ServerProcess, serve

pytestmark = pytest.mark.browser

_FAKE = """(made) => {
  let subscription = null;
  PushManager.prototype.getSubscription = async () => subscription;
  PushManager.prototype.subscribe = async (options) => {
    subscription = { endpoint: made.endpoint, toJSON: () => made, unsubscribe: async () => true };
    window.subscribedWith = options;
    return subscription;
  };
}"""

#: Presses a button of the notification on show, or, without one, taps it. The browser's own event cannot be made here.
_PRESS = """async (action) => {
  const [notification] = await self.registration.getNotifications();
  const event = new NotificationEvent("notificationclick", { notification, action });
  let done;
  event.waitUntil = (work) => { done = work; };
  let opened = "";
  // Only a person's own tap may open a window.
  self.clients.openWindow = async (url) => { opened = url; };
  self.dispatchEvent(event);
  await done;
  return opened;
}"""

_SHOWN = """async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((one) => ({
  title: one.title, body: one.body, tag: one.tag, actions: one.actions.map((action) => action.action) }))"""

_SOON_SHOWN = f"""async (title) => {{
  for (let look = 0; look < 200; look += 1) {{
    const found = (await ({_SHOWN})()).find((one) => one.title.includes(title));
    if (found) return found;
    await new Promise((done) => setTimeout(done, 50));
  }}
  return null;
}}"""


def test_push_is_shown_and_its_buttons_acknowledge_and_open(
    whole_browser: Browser, database: str, tmp_path: Path
) -> None:
    desk = service_desk.set_up()
    allowed = {"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"}
    with (
        push_double() as service,
        serve(tmp_path, database, **allowed) as running,
        visitor(whole_browser, running.url) as alice,
    ):
        phone = service.browser()
        alice.context.grant_permissions(["notifications"])
        sign_in(alice, "alice")
        alice.open("/me/devices/")
        page = alice.page
        page.evaluate(_WORKER_IS_IN_CHARGE)
        page.evaluate(_FAKE, phone.subscription())
        alice.check("devices")
        page.get_by_label("Name").fill("Alice's phone")
        page.get_by_role("button", name="Enable push on this device").click()
        expect(page.get_by_text("Alice's phone now receives your pages")).to_be_visible()
        number = _paged(running, desk, service)
        says = phone.received[0]
        deliver = _pushes(alice.context.new_cdp_session(page), page)
        deliver(says)
        shown = _wait_for(page, "🔴 P1 Critical: VPN down")
        assert shown["tag"] == f"alert-{number}"
        assert shown["actions"] == ["acknowledge", "assign"]
        (worker,) = alice.context.service_workers
        assert worker.evaluate(_PRESS, "") == f"{running.url}{says['url']}"
        deliver(says)
        _wait_for(page, "🔴 P1 Critical: VPN down")
        assert worker.evaluate(_PRESS, "acknowledge") == ""
        _wait_for(page, f"You acknowledged alert {number}.")
        alice.open(f"/alerts/{number}/")
        expect(page.get_by_text("by push").first).to_be_visible()


def _paged(running: ServerProcess, desk: service_desk.ServiceDesk, service: PushDouble) -> int:
    body = {"id": "1", "subject": "VPN down", "priority": "critical"}
    number = int(httpx.post(running.url + desk.monitoring_path, json=body, timeout=PATIENCE).json()["alert_id"])
    assert service.arrived.wait(15)
    return number


def _pushes(devtools: CDPSession, page: Page) -> Callable[[dict[str, Any]], None]:
    """Hands what it is called with to the page's service worker, as the browser's push service would."""
    results: list[str] = []
    devtools.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: results.extend(one["registrationId"] for one in event["registrations"]),
    )
    devtools.send("ServiceWorker.enable")

    def registration() -> str:
        # The browser tells it in an event after its answer, and events are let in while something is asked.
        page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        return results[0] if results else ""

    parts = urlsplit(page.url)
    to = {"origin": f"{parts.scheme}://{parts.netloc}", "registrationId": until("a service worker", registration)}
    return lambda says: devtools.send("ServiceWorker.deliverPushMessage", {**to, "data": json.dumps(says)})


def _wait_for(page: Page, title: str) -> dict[str, Any]:
    # `wait_for_function` takes a promise for true: the page itself looks until it is there.
    shown: dict[str, Any] | None = page.evaluate(_SOON_SHOWN, title)
    assert shown is not None, title
    return shown
