/* What changes elsewhere appears here without a reload, and never under the reader's pointer.

   An element with data-live="alert:42 alerts" is asked for again when one of its topics is named: from data-src, or as
   the part of this page that data-part names. While the pointer or the focus is inside, a pill says what waits. */
"use strict";
(() => {
  const script = document.currentScript;
  const waiting = new Map(); // element id → prepared replacement
  const busy = new Set();
  const again = new Set();
  const missed = new Map(); // element id → since when what it shows may be old
  const HELD_AGAIN = 400;
  const MISSED_AGAIN = 5000;
  const MISSED_FOR = 4000; // one answer that fails, as while a server starts anew, need not frighten anybody
  const ANSWERED_WITHIN = 15000;
  let lostSince = null;
  let ended = false;

  const elements = () => [...document.querySelectorAll("[data-live]")];
  const hasTopic = (element, topics) => element.dataset.live.split(" ").some((topic) => topics.has(topic));

  function receive(message) {
    if (message.kind === "hint") refresh(new Set(message.topics));
    if (message.kind === "all") refresh(null);
    if (message.kind === "open") back();
    if (message.kind === "lost") lose(message.since);
    if (message.kind === "ended") window.location.reload();
  }

  // A page that nobody looks at only remembers what to ask for.
  let stale = new Set();
  function refresh(topics) {
    if (document.hidden) {
      stale = topics === null || stale === null ? null : stale.union ? stale.union(topics) : new Set([...stale, ...topics]);
      return;
    }
    elements().filter((element) => topics === null || hasTopic(element, topics)).forEach(ask);
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || (stale && !stale.size)) return;
    const topics = stale;
    stale = new Set();
    refresh(topics);
  });

  async function ask(element) {
    const id = element.id;
    if (busy.has(id)) { again.add(id); return; }
    busy.add(id);
    const begun = Date.now();
    const known = await fetchInto(element);
    busy.delete(id);
    if (known) missed.delete(id); else if (!missed.has(id)) missed.set(id, begun);
    showOld();
    if (!known || again.delete(id)) setTimeout(() => askAgain(id), known ? HELD_AGAIN : MISSED_AGAIN);
  }

  function askAgain(id) {
    const current = document.getElementById(id);
    if (!current) { missed.delete(id); showOld(); } else if (document.hidden) stale = null; else ask(current);
  }

  // Whether what the server has is shown now, or waits to be; a request that nobody answers is given up.
  async function fetchInto(element) {
    const headers = element.dataset.part ? { "X-Part": element.dataset.part } : {};
    const given = new AbortController();
    const timer = setTimeout(() => given.abort(), ANSWERED_WITHIN);
    try {
      const response = await fetch(element.dataset.src || window.location.href, { headers, redirect: "error", signal: given.signal });
      if (response.ok) offer(element, await response.text());
      // Once: whoever stays, for what is typed and not sent yet, is not asked again and again.
      if (response.status === 401 && !ended) { ended = true; window.location.reload(); }
      // What is gone, or not for one's eyes any more, is not asked for again.
      return response.status < 500 && response.status !== 401 && response.status !== 429;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  function offer(element, html) {
    const current = document.getElementById(element.id);
    if (!current) return;
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(element.id);
    if (!fresh || same(fresh, current)) {
      // What one sees is how it stands by now, whatever came in between.
      const seen = fresh?.querySelector("input[name=seen_at]");
      if (seen) current.querySelectorAll("input[name=seen_at]").forEach((field) => { field.value = seen.value; });
      waiting.delete(element.id);
      hidePill(current);
      return;
    }
    if (isHeld(current)) { waiting.set(element.id, fresh); showPill(current, fresh); } else swap(current, fresh);
  }

  // Moments and countdowns move by themselves, and when a form was seen is what a press says: they are no difference.
  function same(one, other) {
    const plain = (element) => {
      const copy = element.cloneNode(true);
      copy.querySelectorAll("time").forEach((time) => { time.textContent = ""; });
      copy.querySelectorAll(".pill-new").forEach((pill) => pill.remove());
      copy.querySelectorAll(".fresh").forEach((row) => row.classList.remove("fresh"));
      // What one opened or folded, to read or to type in.
      copy.querySelectorAll("details").forEach((part) => part.removeAttribute("open"));
      copy.querySelectorAll('[class=""]').forEach((row) => row.removeAttribute("class"));
      copy.querySelectorAll("input[name=csrfmiddlewaretoken], input[name=seen_at]").forEach((field) => field.remove());
      copy.querySelectorAll("[data-sent], [data-pressed]").forEach((part) => { delete part.dataset.sent; delete part.dataset.pressed; });
      // What a script added for those who have scripts.
      copy.querySelectorAll("[data-dressed]").forEach((part) => part.remove());
      copy.querySelectorAll("[data-copy-button]").forEach((button) => { button.hidden = true; });
      return copy.innerHTML;
    };
    return plain(one) === plain(other);
  }

  function isHeld(element) {
    if (element.hasAttribute("data-live-at-once")) return false;
    const pointer = window.matchMedia("(hover: hover)").matches && element.matches(":hover");
    const focus = element.contains(document.activeElement);
    const chosen = element.querySelector("input[type=checkbox]:checked, details[open], [data-opened]") !== null;
    const selection = window.getSelection();
    const reading = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
    return pointer || focus || chosen || reading;
  }

  function swap(current, fresh) {
    const known = new Set([...current.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    waiting.delete(current.id);
    const element = document.importNode(fresh, true);
    current.replaceWith(element);
    if (known.size) {
      element.querySelectorAll("[data-key]").forEach((row) => { if (!known.has(row.dataset.key)) row.classList.add("fresh"); });
    }
    if (window.htmx) window.htmx.process(element);
    element.dispatchEvent(new CustomEvent("tocsin:swapped", { bubbles: true }));
  }

  function showPill(current, fresh) {
    const known = new Set([...current.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    const rows = [...fresh.querySelectorAll("[data-key]")];
    const added = known.size || rows.length ? rows.filter((row) => !known.has(row.dataset.key)).length : 0;
    let pill = current.querySelector(":scope > .pill-new");
    if (!pill) {
      pill = document.createElement("div");
      pill.className = "pill-new";
      pill.innerHTML = '<button type="button" class="button primary small"></button>';
      current.prepend(pill);
      pill.firstChild.addEventListener("click", () => { const next = waiting.get(current.id); if (next) swap(current, next); });
    }
    const german = document.documentElement.lang.startsWith("de");
    pill.firstChild.textContent = added ? (german ? `${added} neu` : `${added} new`) : (german ? "Geändert: anzeigen" : "Changed: show");
  }

  function hidePill(current) {
    const pill = current.querySelector(":scope > .pill-new");
    if (pill) pill.remove();
  }

  // For what no hint tells of: asked again while it says so.
  const asked = new Map();
  setInterval(() => {
    if (document.hidden) return;
    document.querySelectorAll("[data-poll]").forEach((element) => {
      if (Date.now() - (asked.get(element.id) ?? 0) < Number(element.dataset.poll)) return;
      asked.set(element.id, Date.now());
      ask(element);
    });
  }, 500);

  // Whatever was held is shown once pointer and focus have left.
  function settle() {
    for (const [id, fresh] of waiting) {
      const current = document.getElementById(id);
      if (!current) waiting.delete(id); else if (!isHeld(current)) swap(current, fresh);
    }
  }
  setInterval(settle, 500);

  /* ---- the connection ---- */
  const tellWorker = (message) => navigator.serviceWorker?.controller?.postMessage(message);

  function lose(since) {
    if (lostSince === null) tellWorker({ kind: "lost", since });
    lostSince ??= since;
    showOld();
  }

  function back() {
    if (lostSince !== null) tellWorker({ kind: "open" });
    lostSince = null;
    document.documentElement.dataset.live = "open";
    showOld();
  }

  // Without the stream nothing is told, and without an answer what was told of is not shown.
  function showOld() {
    const old = [...missed.values()].filter((since) => Date.now() - since > MISSED_FOR);
    if (lostSince !== null) old.push(lostSince);
    document.querySelectorAll("[data-live-chip]").forEach((chip) => { chip.hidden = old.length > 0 || document.documentElement.dataset.live !== "open"; });
    const box = document.getElementById("lost");
    if (!box) return;
    box.hidden = !old.length;
    if (!old.length) return;
    const time = new Date(Math.min(...old)).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const german = document.documentElement.lang.startsWith("de");
    box.textContent = box.dataset.text.replace("{since}", `${german ? "seit" : "since"} ${time}`);
  }

  const since = Date.parse(document.querySelector('meta[name="tocsin-now"]').content);

  function connectWorker() {
    const worker = new SharedWorker(script.dataset.worker, "tocsin-live");
    worker.port.onmessage = (event) => receive(event.data);
    worker.port.start();
    const tell = () => worker.port.postMessage({ kind: document.hidden ? "hidden" : "shown", since });
    document.addEventListener("visibilitychange", tell);
    window.addEventListener("pagehide", () => worker.port.postMessage({ kind: "gone" }));
    window.addEventListener("pageshow", (event) => { if (event.persisted) tell(); });
    tell();
  }

  // A browser without shared workers: one stream a page.
  function connectAlone() {
    let source = null;
    let last = since;
    const open = () => {
      source = new EventSource(`/live?since=${last}`);
      source.onopen = () => receive({ kind: "open" });
      source.onerror = () => receive({ kind: "lost", since: Date.now() });
      for (const kind of ["hint", "tick", "all", "ended"]) {
        source.addEventListener(kind, (event) => {
          last = Number(event.lastEventId) || last;
          if (kind === "ended") source.close();
          receive({ kind, topics: event.data.split(" ") });
        });
      }
    };
    const turn = () => { if (document.hidden) { source?.close(); source = null; } else if (!source) open(); };
    document.addEventListener("visibilitychange", turn);
    turn();
  }

  if (elements().length) (typeof SharedWorker === "function" ? connectWorker : connectAlone)();
})();
