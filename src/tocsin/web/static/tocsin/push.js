/* "Push on this device": asks the browser for permission and a subscription, and posts it as a plain form. */
"use strict";
(() => {
  const box = document.querySelector("[data-push]");
  if (!box) return;
  const form = box.querySelector("form");
  const states = box.querySelectorAll("[data-push-state]");

  function showState(state) {
    states.forEach((part) => { part.hidden = !part.dataset.pushState.split(" ").includes(state); });
  }

  const isApple = /iPhone|iPad/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);
  const isInstalled = matchMedia("(display-mode: standalone)").matches || navigator.standalone === true;

  function bytes(text) {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
  }

  async function hash(text) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async function current() {
    const registration = await navigator.serviceWorker.getRegistration();
    return registration?.pushManager.getSubscription();
  }

  async function begin() {
    if (!window.isSecureContext) return showState("insecure");
    if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) {
      return showState(isApple && !isInstalled ? "install" : "unable");
    }
    if (Notification.permission === "denied") return showState("denied");
    const subscription = await current();
    const ownDevice = subscription && document.querySelector(`[data-device="${await hash(subscription.endpoint)}"]`);
    if (!ownDevice) return showState("ready");
    ownDevice.querySelector("[data-this-device]").hidden = false;
    return showState("on");
  }

  async function subscribe() {
    const key = bytes(box.dataset.key);
    // Permission is asked for here, where somebody has just pressed a button, and nowhere else.
    if ((await Notification.requestPermission()) !== "granted") return showState("denied");
    const registration = await navigator.serviceWorker.register(box.dataset.worker);
    await navigator.serviceWorker.ready;
    const previous = await registration.pushManager.getSubscription();
    if (previous) await previous.unsubscribe();
    const created = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    form.elements.subscription.value = JSON.stringify(created);
    form.submit();
    return null;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showState("busy");
    try {
      await subscribe();
    } catch (error) {
      box.querySelector("[data-push-error]").textContent = error.message;
      showState("failed");
    }
  });

  begin();
})();
