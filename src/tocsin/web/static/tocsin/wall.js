/* The wall board: the screen is kept awake, the clock goes, and the page is loaded anew each night, so that a board that
   hangs for months runs the version that the server has. */
"use strict";
(() => {
  const clock = document.querySelector("[data-wall-clock]");
  const started = Date.now();

  function tick() {
    const now = new Date(window.tocsin ? window.tocsin.now() : Date.now());
    clock.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const isNight = now.getHours() === 4 && now.getMinutes() === 0;
    if (isNight && Date.now() - started > 3600000 && navigator.onLine) window.location.reload();
  }
  setInterval(tick, 1000);

  // A browser gives the lock up whenever the page is hidden; refused, the screen's own settings decide.
  async function stayAwake() {
    if (document.hidden || !("wakeLock" in navigator)) return;
    try { await navigator.wakeLock.request("screen"); } catch { /* on battery, for instance */ }
  }
  document.addEventListener("visibilitychange", stayAwake);
  stayAwake();
})();
