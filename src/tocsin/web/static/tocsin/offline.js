/* The page without a connection: since when, and back to where one was going as soon as the server answers. */
"use strict";
(() => {
  const box = document.getElementById("offline");
  const { locale } = document.querySelector('meta[name="tocsin-now"]').dataset;
  const formatTime = (moment) => new Date(moment).toLocaleString(locale, { weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  for (const name of ["since", "reached"]) {
    const moment = Number(box.dataset[name]);
    const line = box.querySelector(`[data-line=${name}]`);
    if (!moment || !line) continue;
    const time = line.querySelector("time");
    time.dateTime = new Date(moment).toISOString();
    time.textContent = formatTime(moment);
    line.hidden = false;
  }
  async function tryAgain() {
    try {
      // Not through the browser's cache: only the server itself can say that it is back.
      const response = await fetch("/healthz", { cache: "no-store" });
      if (response.ok) window.location.reload();
    } catch { /* still without: the next turn asks again */ }
  }
  box.querySelector("button").addEventListener("click", () => window.location.reload());
  window.addEventListener("online", tryAgain);
  setInterval(() => document.hidden || tryAgain(), 5000);
})();
