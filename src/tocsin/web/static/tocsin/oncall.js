/* Lanes: drag along a role to choose a stretch, or choose one with the arrow keys; links of bars open in a sheet.
   What the sheet shows is the page that the link leads to: without this script that page does the same. */
"use strict";
(() => {
  const sheet = document.getElementById("reassign-sheet");
  const NS = "http://www.w3.org/2000/svg";
  const MINUTE = 60000;

  /* ---- the sheet ---- */
  async function open(url) {
    if (!sheet) { window.location.href = url; return; }
    try {
      const response = await fetch(url, { headers: { "X-Part": "form" }, redirect: "error" });
      if (!response.ok) throw new Error("no page");
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("reassign");
      sheet.querySelector("[data-sheet-body]").replaceChildren(document.importNode(fresh, true));
      if (!sheet.open) sheet.showModal();
      const first = ["[name=user]", "select", "input:not([type=hidden])"].map((field) => sheet.querySelector(`[data-sheet-body] ${field}`));
      first.find(Boolean)?.focus();
    } catch { window.location.href = url; }
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-sheet]");
    const narrow = event.target.closest?.("[data-href]"); // a bar that is too narrow for a link
    if (narrow && !dragged) { open(narrow.dataset.href); return; }
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (!dragged) open(typeof link.href === "string" ? link.href : link.href.baseVal);
  });
  sheet?.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet?.addEventListener("close", () => { clearSelection(); focusBefore?.focus(); });

  /* ---- a stretch of a track ---- */
  let selection = null; // { track, begin, end }, in milliseconds
  let dragged = false;
  let pressed = null; // what the pointer is down on: { track, at, x }
  let focusBefore = null; // what had the focus

  const timelineOf = (track) => track.closest("[data-timeline]");
  const midnights = (track) => timelineOf(track).dataset.midnights.split(" ").map((text) => Date.parse(text));

  function momentAt(track, clientX) {
    const days = midnights(track);
    const box = track.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (clientX - box.left) / box.width));
    return days[0] + part * (days[days.length - 1] - days[0]);
  }

  // To where a bar begins or ends, within a hundredth of the width; else to the step, counted from the last midnight: days
  // are not all 24 hours long.
  const edges = (track) => track.dataset.edges.split(" ").filter(Boolean).map((text) => Date.parse(text));
  function snap(track, at) {
    const days = midnights(track);
    const reach = (days[days.length - 1] - days[0]) / 100;
    return edges(track).find((edge) => Math.abs(edge - at) <= reach) ?? snapToStep(track, at);
  }
  function snapToStep(track, at) {
    const days = midnights(track);
    const step = Number(timelineOf(track).dataset.step) * MINUTE;
    const last = days.findLastIndex((day) => day <= at);
    if (last < 0) return days[0];
    if (last === days.length - 1) return days[last];
    if (step >= 1440 * MINUTE) return at - days[last] < days[last + 1] - at ? days[last] : days[last + 1];
    return Math.min(days[last + 1], days[last] + Math.round((at - days[last]) / step) * step);
  }
  function next(track, at, direction) {
    const days = midnights(track);
    const step = Number(timelineOf(track).dataset.step) * MINUTE;
    const stepped = step >= 1440 * MINUTE
      ? (direction > 0 ? days.find((day) => day > at) ?? at : days.findLast((day) => day < at) ?? at)
      : Math.min(days[days.length - 1], Math.max(days[0], snapToStep(track, at + direction * step)));
    // An edge between the two comes first.
    const passed = edges(track).filter((edge) => (edge - at) * direction > 0 && (stepped - edge) * direction > 0);
    return passed.length ? (direction > 0 ? Math.min(...passed) : Math.max(...passed)) : stepped;
  }

  function formatTime(at, track) {
    return new Intl.DateTimeFormat(document.querySelector('meta[name="tocsin-now"]').dataset.locale, {
      weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: timelineOf(track).dataset.zone,
    }).format(at);
  }

  // While a track is held or something on it is chosen, what changes elsewhere waits.
  function markBusy() {
    const busy = selection !== null || pressed !== null;
    document.querySelectorAll("[data-timeline]").forEach((timeline) => timeline.toggleAttribute("data-opened", busy));
  }

  function draw() {
    document.querySelectorAll(".tl-picked").forEach((old) => old.remove());
    markBusy();
    document.querySelectorAll(".tl-status").forEach((box) => { box.textContent = ""; });
    if (!selection) return;
    const { track, begin, end } = selection;
    const days = midnights(track);
    const duration = days[days.length - 1] - days[0];
    const group = document.createElementNS(NS, "svg");
    group.classList.add("tl-picked");
    group.dataset.added = "";
    group.setAttribute("x", `${((begin - days[0]) / duration) * 100}%`);
    group.setAttribute("width", `${((end - begin) / duration) * 100}%`);
    group.setAttribute("height", "100%");
    const rect = document.createElementNS(NS, "rect");
    rect.classList.add("tl-pick");
    rect.setAttribute("width", "100%");
    rect.setAttribute("height", "100%");
    group.append(rect);
    track.append(group);
    timelineOf(track).nextElementSibling.textContent = `${track.getAttribute("aria-label")}: ${formatTime(begin, track)} – ${formatTime(end, track)}`;
  }
  function select(track, one, other) {
    selection = { track, begin: Math.min(one, other), end: Math.max(one, other) };
    draw();
  }
  function clearSelection() {
    selection = null;
    draw();
  }
  function openSelection() {
    if (!selection || selection.end <= selection.begin) { clearSelection(); return; }
    const { track, begin, end } = selection;
    const query = new URLSearchParams({ role: track.dataset.pick, from: new Date(begin).toISOString(), to: new Date(end).toISOString() });
    if (track.dataset.schedule) query.set("schedule", track.dataset.schedule);
    open(`${track.dataset.url}?${query}`);
  }

  /* ---- by pointer ---- */
  document.addEventListener("pointerdown", (event) => {
    const track = event.target.closest?.("svg[data-pick]");
    dragged = false;
    if (!track || event.button || !event.isPrimary) return;
    pressed = { track, at: snap(track, momentAt(track, event.clientX)), x: event.clientX };
    markBusy();
  });
  document.addEventListener("dragstart", (event) => { if (pressed) event.preventDefault(); });
  document.addEventListener("pointermove", (event) => {
    if (!pressed || (!dragged && Math.abs(event.clientX - pressed.x) < 6)) return;
    dragged = true;
    select(pressed.track, pressed.at, snap(pressed.track, momentAt(pressed.track, event.clientX)));
  });
  document.addEventListener("pointerup", () => {
    if (pressed && dragged) { focusBefore = pressed.track.closest(".tl-row").querySelector("[data-pick-button]"); openSelection(); setTimeout(() => { dragged = false; }, 0); }
    pressed = null;
    markBusy();
  });
  document.addEventListener("pointercancel", () => { pressed = null; dragged = false; clearSelection(); });

  /* ---- by keyboard: the role's name is a button that begins a stretch, the arrows move and stretch it ---- */
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("[data-pick-button]");
    if (!button) {
      if (event.key === "Escape" && selection && !sheet?.open) { pressed = null; clearSelection(); }
      return;
    }
    const track = button.closest(".tl-row").querySelector("svg[data-pick]");
    if (!selection || selection.track !== track) return;
    const direction = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (direction) {
      event.preventDefault();
      const end = next(track, selection.end, direction);
      if (event.shiftKey) { if (end > selection.begin) select(track, selection.begin, end); return; }
      const begin = next(track, selection.begin, direction);
      if (end - begin > 0 && end !== selection.end && begin !== selection.begin) select(track, begin, end);
    } else if (event.key === "Escape") { event.preventDefault(); clearSelection(); }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-pick-button]");
    if (!button) return;
    const track = button.closest(".tl-row").querySelector("svg[data-pick]");
    focusBefore = button;
    if (selection && selection.track === track) { openSelection(); return; }
    const days = midnights(track);
    const now = snap(track, Math.max(window.tocsin ? window.tocsin.now() : Date.now(), days[0]));
    const begin = now >= days[days.length - 1] ? days[0] : now;
    let end = begin;
    for (let steps = 0; steps < (Number(timelineOf(track).dataset.step) < 60 ? 4 : 8) && end < days[days.length - 1]; steps += 1) {
      end = next(track, end, 1);
      if (Number(timelineOf(track).dataset.step) >= 1440) break;
    }
    select(track, begin, end);
  });

  // What is added is marked, so that a live page takes it for no change.
  function start(root) {
    root.querySelectorAll("[data-timeline]:has(svg[data-pick])").forEach((timeline, index) => {
      document.documentElement.setAttribute("data-picking", "");
      const status = document.createElement("div");
      status.id = `tl-status-${index}`;
      status.className = "tl-status";
      status.dataset.added = "";
      status.setAttribute("role", "status");
      timeline.after(status);
      timeline.querySelectorAll("svg[data-pick]").forEach((track) => {
        const name = track.closest(".tl-row").querySelector(".tl-label strong");
        const button = document.createElement("button");
        button.type = "button";
        button.className = "pick-button";
        button.dataset.pickButton = "";
        button.dataset.added = "";
        button.textContent = name.textContent;
        button.setAttribute("aria-describedby", status.id);
        name.after(button);
      });
    });
  }
  document.addEventListener("tocsin:swapped", (event) => start(event.target));
  start(document);
})();
