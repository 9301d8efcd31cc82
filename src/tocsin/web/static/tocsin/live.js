/* What changes elsewhere appears here without a reload, and never under the reader's pointer.

   An element with data-live="alert:42 alerts" is asked for again when one of its topics is named: from data-src, or as
   the part of this page that data-part names. While the pointer or the focus is inside, a pill says what waits. */
"use strict";
(() => {
  const script = document.currentScript;
  const clockMeta = document.querySelector('meta[name="tocsin-now"]');
  const words = clockMeta.dataset;
  const since = Date.parse(clockMeta.content);
  const waiting = new Map(); // element id → prepared replacement
  const loading = new Set();
  const refetchNext = new Set();
  const failedSince = new Map(); // element id → since when what it shows may be old
  const REFETCH_DELAY = 400;
  const RETRY_DELAY = 5000;
  const STALE_AFTER = 4000; // one answer that fails, as while a server starts anew, need not frighten anybody
  const RESPONSE_TIMEOUT = 15000;
  let lostSince = null;
  let ended = false;

  const elements = () => [...document.querySelectorAll("[data-live]")];
  const hasTopic = (element, topics) => element.dataset.live.split(" ").some((topic) => topics.has(topic));

  function receive(message) {
    if (message.kind === "hint") refresh(new Set(message.topics));
    if (message.kind === "all") refresh(null);
    if (message.kind === "open") handleOpen();
    if (message.kind === "lost") handleLost(message.since);
    if (message.kind === "ended") window.location.reload();
  }

  // A page that nobody looks at only remembers what to ask for.
  let stale = new Set();
  function refresh(topics) {
    if (document.hidden) {
      stale = topics === null || stale === null ? null : stale.union ? stale.union(topics) : new Set([...stale, ...topics]);
      return;
    }
    elements().filter((element) => topics === null || hasTopic(element, topics)).forEach(refetch);
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || (stale && !stale.size)) return;
    const topics = stale;
    stale = new Set();
    refresh(topics);
  });

  async function refetch(element) {
    const id = element.id;
    if (loading.has(id)) { refetchNext.add(id); return; }
    loading.add(id);
    const startedAt = Date.now();
    const isHandled = await fetchInto(element);
    loading.delete(id);
    if (isHandled) failedSince.delete(id); else if (!failedSince.has(id)) failedSince.set(id, startedAt);
    showStale();
    if (!isHandled || refetchNext.delete(id)) setTimeout(() => refetchAgain(id), isHandled ? REFETCH_DELAY : RETRY_DELAY);
  }

  function refetchAgain(id) {
    const current = document.getElementById(id);
    if (!current) { failedSince.delete(id); showStale(); } else if (document.hidden) stale = null; else refetch(current);
  }

  // Whether what the server has is shown now, or waits to be; a request that nobody answers is given up.
  async function fetchInto(element) {
    const headers = element.dataset.part ? { "X-Part": element.dataset.part } : {};
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), RESPONSE_TIMEOUT);
    try {
      const response = await fetch(element.dataset.src || window.location.href, { headers, redirect: "error", signal: controller.signal });
      if (response.ok) applyUpdate(element, await response.text());
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

  function applyUpdate(element, html) {
    const current = document.getElementById(element.id);
    if (!current) return;
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(element.id);
    if (!fresh || isSame(fresh, current)) {
      const now = fresh?.querySelector(".tl-now")?.getAttribute("x1");
      if (now) current.querySelectorAll(".tl-now").forEach((line) => { line.setAttribute("x1", now); line.setAttribute("x2", now); });
      // What one sees is how it stands by now, whatever came in between.
      const seenAt = fresh?.querySelector("input[name=seen_at]");
      if (seenAt) current.querySelectorAll("input[name=seen_at]").forEach((field) => { field.value = seenAt.value; });
      waiting.delete(element.id);
      hidePill(current);
      return;
    }
    // The answer to a press is a new page: until it is there, no other button may come under the finger.
    if (isSending()) waiting.set(element.id, fresh);
    else if (isInUse(current)) { waiting.set(element.id, fresh); showPill(current, fresh); } else swap(current, fresh);
  }

  // Moments, countdowns and the line of now move by themselves, and when a form was seen is what a press says: they are no difference.
  function isSame(one, other) {
    const normalize = (element) => {
      const copy = element.cloneNode(true);
      copy.querySelectorAll("time").forEach((time) => { time.textContent = ""; });
      copy.querySelectorAll(".tl-now").forEach((line) => line.remove());
      copy.querySelectorAll(".pill-new").forEach((pill) => pill.remove());
      copy.querySelectorAll(".fresh").forEach((row) => row.classList.remove("fresh"));
      // What one opened or folded, to read or to type in.
      copy.querySelectorAll("details").forEach((part) => part.removeAttribute("open"));
      copy.querySelectorAll('[class=""]').forEach((row) => row.removeAttribute("class"));
      copy.querySelectorAll("input[name=csrfmiddlewaretoken], input[name=seen_at]").forEach((field) => field.remove());
      // What a script added for those who have scripts.
      copy.querySelectorAll("[data-added]").forEach((part) => part.remove());
      copy.querySelectorAll("[data-copy-button]").forEach((button) => { button.hidden = true; });
      return copy.innerHTML;
    };
    return normalize(one) === normalize(other);
  }

  const isSending = () => "sending" in document.documentElement.dataset;

  function isInUse(element) {
    if (element.hasAttribute("data-live-at-once")) return false;
    const pointer = window.matchMedia("(hover: hover)").matches && element.matches(":hover");
    const focus = element.contains(document.activeElement);
    const hasOpenControl = element.querySelector("input[type=checkbox]:checked, details[open], [data-opened]") !== null;
    const selection = window.getSelection();
    const isSelecting = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
    return pointer || focus || hasOpenControl || isSelecting;
  }

  function swap(current, fresh) {
    const knownKeys = new Set([...current.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    waiting.delete(current.id);
    const element = document.importNode(fresh, true);
    current.replaceWith(element);
    if (knownKeys.size) {
      element.querySelectorAll("[data-key]").forEach((row) => { if (!knownKeys.has(row.dataset.key)) row.classList.add("fresh"); });
    }
    if (window.htmx) window.htmx.process(element);
    element.dispatchEvent(new CustomEvent("tocsin:swapped", { bubbles: true }));
  }

  function showPill(current, fresh) {
    const knownKeys = new Set([...current.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    const rows = [...fresh.querySelectorAll("[data-key]")];
    const added = knownKeys.size || rows.length ? rows.filter((row) => !knownKeys.has(row.dataset.key)).length : 0;
    let pill = current.querySelector(":scope > .pill-new");
    if (!pill) {
      pill = document.createElement("div");
      pill.className = "pill-new";
      pill.innerHTML = '<button type="button" class="button primary small"></button>';
      current.prepend(pill);
      pill.firstChild.addEventListener("click", () => { const next = waiting.get(current.id); if (next) swap(current, next); });
    }
    pill.firstChild.textContent = added ? words.added.replace("{count}", added) : words.changed;
  }

  function hidePill(current) {
    const pill = current.querySelector(":scope > .pill-new");
    if (pill) pill.remove();
  }

  // For what no hint tells of: asked again while it says so. What the page came with is new.
  const polledAt = new Map();
  const loadedAt = Date.now();
  setInterval(() => {
    if (document.hidden) return;
    document.querySelectorAll("[data-poll]").forEach((element) => {
      if (Date.now() - (polledAt.get(element.id) ?? loadedAt) < Number(element.dataset.poll)) return;
      polledAt.set(element.id, Date.now());
      refetch(element);
    });
  }, 500);

  // Whatever was held is shown once pointer and focus have left.
  function applyWaiting() {
    if (isSending()) return;
    for (const [id, fresh] of waiting) {
      const current = document.getElementById(id);
      if (!current) waiting.delete(id); else if (!isInUse(current)) swap(current, fresh);
    }
  }
  setInterval(applyWaiting, 500);

  /* ---- the connection ---- */
  const postToServiceWorker = (message) => navigator.serviceWorker?.controller?.postMessage(message);

  function handleLost(since) {
    if (lostSince === null) postToServiceWorker({ kind: "lost", since });
    lostSince ??= since;
    showStale();
  }

  function handleOpen() {
    if (lostSince !== null) postToServiceWorker({ kind: "open" });
    lostSince = null;
    document.documentElement.dataset.live = "open";
    showStale();
  }

  // Without the stream nothing is told, and without an answer what was told of is not shown.
  function showStale() {
    const staleTimes = [...failedSince.values()].filter((since) => Date.now() - since > STALE_AFTER);
    if (lostSince !== null) staleTimes.push(lostSince);
    document.querySelectorAll("[data-live-chip]").forEach((chip) => { chip.hidden = staleTimes.length > 0 || document.documentElement.dataset.live !== "open"; });
    const box = document.getElementById("lost");
    if (!box) return;
    box.hidden = !staleTimes.length;
    if (!staleTimes.length) return;
    const time = new Date(Math.min(...staleTimes)).toLocaleTimeString(words.locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    box.textContent = box.dataset.text.replace("{time}", time);
  }

  function connectWorker() {
    const worker = new SharedWorker(script.dataset.worker, "tocsin-live");
    worker.port.onmessage = (event) => receive(event.data);
    worker.port.start();
    const postState = () => worker.port.postMessage({ kind: document.hidden ? "hidden" : "visible", since });
    document.addEventListener("visibilitychange", postState);
    window.addEventListener("pagehide", () => worker.port.postMessage({ kind: "closed" }));
    window.addEventListener("pageshow", (event) => { if (event.persisted) postState(); });
    postState();
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
    const toggleStream = () => { if (document.hidden) { source?.close(); source = null; } else if (!source) open(); };
    document.addEventListener("visibilitychange", toggleStream);
    toggleStream();
  }

  if (elements().length) (typeof SharedWorker === "function" ? connectWorker : connectAlone)();
})();
