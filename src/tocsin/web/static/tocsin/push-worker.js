/* Pushes: shows each, acts when a button is pressed, opens the alert when the rest is. Loaded by service-worker.js. */
"use strict";
(() => {
  const ACT = "/push/act";
  const CHANGED = "/push/changed";

  self.addEventListener("push", (event) => {
    let payload = {};
    try { payload = event.data.json(); } catch { /* a push without words still rings, as browsers demand */ }
    event.waitUntil(show(payload));
  });

  function show(payload) {
    const maxActions = self.Notification?.maxActions ?? 2;
    return self.registration.showNotification(payload.title || "Tocsin", {
      body: payload.text || tocsin.texts.details,
      tag: payload.tag || payload.id,
      renotify: Boolean(payload.tag || payload.id),
      requireInteraction: Boolean(payload.is_urgent),
      icon: tocsin.icon,
      badge: tocsin.badge,
      actions: (payload.acts ?? []).slice(0, maxActions),
      data: { url: payload.url || "/", token: payload.token, tag: payload.tag || payload.id, title: payload.title },
    });
  }

  self.addEventListener("notificationclick", (event) => {
    event.notification.close();
    const { url, token } = event.notification.data ?? {};
    event.waitUntil(event.action && token ? act(event.action, event.notification.data) : open(url));
  });

  async function act(command, data) {
    let text = "";
    try {
      const response = await fetch(ACT, {
        method: "POST",
        credentials: "omit",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ token: data.token, command }),
      });
      text = (await response.json()).text;
    } catch { /* said below */ }
    await self.registration.showNotification(text || tocsin.texts.unreachable, {
      body: text ? data.title || "" : tocsin.texts.tap,
      tag: data.tag,
      silent: Boolean(text),
      icon: tocsin.icon,
      badge: tocsin.badge,
      data: { url: data.url },
    });
  }

  async function open(url) {
    const target = new URL(url || "/", self.location.origin);
    for (const client of await self.clients.matchAll({ type: "window" })) {
      if (client.url === target.href) return client.focus();
    }
    return self.clients.openWindow(target.href);
  }

  // A browser that renews its subscription by itself: the device stays the same.
  self.addEventListener("pushsubscriptionchange", (event) => {
    if (!event.oldSubscription) return;
    event.waitUntil((async () => {
      const after = event.newSubscription ?? (await self.registration.pushManager.subscribe(event.oldSubscription.options));
      await fetch(CHANGED, {
        method: "POST",
        credentials: "omit",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ before: event.oldSubscription.endpoint, after: after.toJSON() }),
      });
    })());
  });
})();
