/* Timelines: drag along a role to choose a stretch, or choose one with the arrow keys; links of stretches open in a sheet.
   What the sheet shows is the page that the link leads to: without this script that page does the same. */
"use strict";
(() => {
  const sheet = document.getElementById("stand-in-sheet");
  const NS = "http://www.w3.org/2000/svg";
  const MINUTE = 60000;

  /* ---- the sheet ---- */
  async function open(url) {
    if (!sheet) { window.location.href = url; return; }
    try {
      const response = await fetch(url, { headers: { "X-Part": "form" }, redirect: "error" });
      if (!response.ok) throw new Error("no page");
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("stand-in");
      sheet.querySelector("[data-sheet-body]").replaceChildren(document.importNode(fresh, true));
      if (!sheet.open) sheet.showModal();
      sheet.querySelector("[data-sheet-body] select, [data-sheet-body] input:not([type=hidden])")?.focus();
    } catch { window.location.href = url; }
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-sheet]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (!dragged) open(typeof link.href === "string" ? link.href : link.href.baseVal);
  });
  sheet?.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet?.addEventListener("close", () => { drop(); from?.focus(); });

  /* ---- a stretch of a track ---- */
  let chosen = null; // { track, begin, end }, in milliseconds
  let dragged = false;
  let held = null; // what the pointer is down on: { track, at, x }
  let from = null; // what had the focus

  const holder = (track) => track.closest("[data-timeline]");
  const midnights = (track) => holder(track).dataset.midnights.split(" ").map((text) => Date.parse(text));

  function momentAt(track, clientX) {
    const days = midnights(track);
    const box = track.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (clientX - box.left) / box.width));
    return days[0] + part * (days[days.length - 1] - days[0]);
  }

  // To the step, counted from the last midnight: days are not all 24 hours long.
  function snap(track, at) {
    const days = midnights(track);
    const step = Number(holder(track).dataset.step) * MINUTE;
    const last = days.findLastIndex((day) => day <= at);
    if (last < 0) return days[0];
    if (last === days.length - 1) return days[last];
    if (step >= 1440 * MINUTE) return at - days[last] < days[last + 1] - at ? days[last] : days[last + 1];
    return Math.min(days[last + 1], days[last] + Math.round((at - days[last]) / step) * step);
  }
  function next(track, at, direction) {
    const days = midnights(track);
    const step = Number(holder(track).dataset.step) * MINUTE;
    if (step >= 1440 * MINUTE) {
      return direction > 0 ? days.find((day) => day > at) ?? at : days.findLast((day) => day < at) ?? at;
    }
    return Math.min(days[days.length - 1], Math.max(days[0], snap(track, at + direction * step)));
  }

  function say(at, track) {
    return new Intl.DateTimeFormat(document.documentElement.lang === "de" ? "de" : "en-GB", {
      weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: holder(track).dataset.zone,
    }).format(at);
  }

  // While a track is held or something on it is chosen, what changes elsewhere waits.
  function wait() {
    const busy = chosen !== null || held !== null;
    document.querySelectorAll("[data-timeline]").forEach((timeline) => timeline.toggleAttribute("data-opened", busy));
  }

  function draw() {
    document.querySelectorAll(".tl-picked").forEach((old) => old.remove());
    wait();
    const box = document.getElementById("tl-said");
    if (!chosen) { if (box) box.textContent = ""; return; }
    const { track, begin, end } = chosen;
    const days = midnights(track);
    const whole = days[days.length - 1] - days[0];
    const group = document.createElementNS(NS, "svg");
    group.classList.add("tl-picked");
    group.dataset.dressed = "";
    group.setAttribute("x", `${((begin - days[0]) / whole) * 100}%`);
    group.setAttribute("width", `${((end - begin) / whole) * 100}%`);
    group.setAttribute("height", "100%");
    const rect = document.createElementNS(NS, "rect");
    rect.classList.add("tl-pick");
    rect.setAttribute("width", "100%");
    rect.setAttribute("height", "100%");
    group.append(rect);
    track.append(group);
    if (box) box.textContent = `${track.getAttribute("aria-label")}: ${say(begin, track)} – ${say(end, track)}`;
  }
  function choose(track, one, other) {
    chosen = { track, begin: Math.min(one, other), end: Math.max(one, other) };
    draw();
  }
  function drop() {
    chosen = null;
    draw();
  }
  function go() {
    if (!chosen || chosen.end <= chosen.begin) { drop(); return; }
    const { track, begin, end } = chosen;
    const query = new URLSearchParams({ role: track.dataset.pick, from: new Date(begin).toISOString(), to: new Date(end).toISOString() });
    if (track.dataset.schedule) query.set("schedule", track.dataset.schedule);
    open(`${holder(track).dataset.url}?${query}`);
  }

  /* ---- by pointer ---- */
  document.addEventListener("pointerdown", (event) => {
    const track = event.target.closest?.("svg[data-pick]");
    dragged = false;
    if (!track || event.button || !event.isPrimary) return;
    held = { track, at: snap(track, momentAt(track, event.clientX)), x: event.clientX };
    wait();
  });
  document.addEventListener("dragstart", (event) => { if (held) event.preventDefault(); });
  document.addEventListener("pointermove", (event) => {
    if (!held || (!dragged && Math.abs(event.clientX - held.x) < 6)) return;
    dragged = true;
    choose(held.track, held.at, snap(held.track, momentAt(held.track, event.clientX)));
  });
  document.addEventListener("pointerup", () => {
    if (held && dragged) { from = held.track.closest(".tl-row").querySelector("[data-pick-button]"); go(); setTimeout(() => { dragged = false; }, 0); }
    held = null;
    wait();
  });
  document.addEventListener("pointercancel", () => { held = null; dragged = false; drop(); });

  /* ---- by keyboard: the role's name is a button that begins a stretch, the arrows move and stretch it ---- */
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("[data-pick-button]");
    if (!button) {
      if (event.key === "Escape" && chosen && !sheet?.open) { held = null; drop(); }
      return;
    }
    const track = button.closest(".tl-row").querySelector("svg[data-pick]");
    if (!chosen || chosen.track !== track) return;
    const direction = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (direction) {
      event.preventDefault();
      const end = next(track, chosen.end, direction);
      if (event.shiftKey) { if (end > chosen.begin) choose(track, chosen.begin, end); return; }
      const begin = next(track, chosen.begin, direction);
      if (end - begin > 0 && end !== chosen.end && begin !== chosen.begin) choose(track, begin, end);
    } else if (event.key === "Escape") { event.preventDefault(); drop(); }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-pick-button]");
    if (!button) return;
    const track = button.closest(".tl-row").querySelector("svg[data-pick]");
    from = button;
    if (chosen && chosen.track === track) { go(); return; }
    const days = midnights(track);
    const now = snap(track, Math.max(window.tocsin ? window.tocsin.now() : Date.now(), days[0]));
    const begin = now >= days[days.length - 1] ? days[0] : now;
    let end = begin;
    for (let steps = 0; steps < (Number(holder(track).dataset.step) < 60 ? 4 : 8) && end < days[days.length - 1]; steps += 1) {
      end = next(track, end, 1);
      if (Number(holder(track).dataset.step) >= 1440) break;
    }
    choose(track, begin, end);
  });

  // What is added is marked, so that a live page takes it for no change.
  function start(root) {
    root.querySelectorAll("[data-timeline]").forEach((timeline) => {
      document.documentElement.setAttribute("data-picking", "");
      const said = document.createElement("div");
      said.id = "tl-said";
      said.className = "tl-said hide-phone";
      said.dataset.dressed = "";
      said.setAttribute("role", "status");
      timeline.after(said);
      timeline.querySelectorAll("svg[data-pick]").forEach((track) => {
        const name = track.closest(".tl-row").querySelector(".tl-label strong");
        const button = document.createElement("button");
        button.type = "button";
        button.className = "pick-button";
        button.dataset.pickButton = "";
        button.dataset.dressed = "";
        button.textContent = name.textContent;
        button.setAttribute("aria-describedby", "tl-said");
        name.after(button);
      });
    });
  }
  document.addEventListener("tocsin:swapped", (event) => start(event.target));
  start(document);
})();
