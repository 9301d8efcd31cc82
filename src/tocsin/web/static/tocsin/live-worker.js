/* One live stream for all pages of a browser. It is closed while none of them is visible.

   Each event's id is the server's time in milliseconds. A page says when it was made, so that whatever changed between
   that and the stream's opening is told to it: from the log kept here, or by the server from its own. */
"use strict";
const ports = new Map(); // port → {visible, since}
const log = []; // {id, topics}
const KEEP_MS = 120000;
const CLOSE_AFTER = 5000;
const LOST_AFTER = 3000;
const SILENT_AFTER = 40000; // the server says something each 15 seconds
let lastEventAt = 0;
let source = null;
let isOpen = false;
let logStart = Infinity; // the log holds everything since then
let lastId = 0;
let lostAt = null;
let lostTimer = null;
let closing = null;
let retry = null;

function broadcast(message) {
  for (const port of ports.keys()) port.postMessage(message);
}

function hint(id, topics) {
  lastId = Math.max(lastId, id);
  log.push({ id, topics });
  while (log.length && log[0].id < lastId - KEEP_MS) {
    logStart = Math.max(logStart, log.shift().id);
  }
  broadcast({ kind: "hint", topics });
}

function open() {
  clearTimeout(retry);
  const since = lastId || Math.min(...[...ports.values()].map((port) => port.since));
  logStart = Math.min(logStart, since);
  source = new EventSource(`/live?since=${since}`);
  lastEventAt = Date.now();
  source.onopen = () => {
    isOpen = true;
    lastEventAt = Date.now();
    lostAt = null;
    clearTimeout(lostTimer);
    lostTimer = null;
    broadcast({ kind: "open" });
  };
  source.onerror = () => {
    isOpen = false;
    lostAt ??= Date.now();
    // A page that is just being left also sees an error; and a short break need not frighten anybody.
    lostTimer ??= setTimeout(() => { if (!isOpen && source) broadcast({ kind: "lost", since: lostAt }); }, LOST_AFTER);
    if (source.readyState === EventSource.CLOSED) {
      // The server refused (too many streams, or it is starting): the browser does not try again by itself.
      source = null;
      retry = setTimeout(updateStream, 5000);
    }
  };
  source.addEventListener("hint", (event) => hint(Number(event.lastEventId), event.data.split(" ")));
  for (const kind of ["hint", "tick", "all"]) source.addEventListener(kind, () => { lastEventAt = Date.now(); });
  source.addEventListener("tick", (event) => { lastId = Math.max(lastId, Number(event.lastEventId)); });
  source.addEventListener("all", (event) => {
    lastId = Math.max(lastId, Number(event.lastEventId));
    logStart = lastId;
    broadcast({ kind: "all" });
  });
  source.addEventListener("ended", () => { close(); broadcast({ kind: "ended" }); });
}

function close() {
  clearTimeout(retry);
  clearTimeout(lostTimer);
  lostTimer = null;
  lostAt = null;
  if (source) source.close();
  source = null;
  isOpen = false;
}

function updateStream() {
  const hasVisiblePort = [...ports.values()].some((port) => port.visible);
  clearTimeout(closing);
  if (hasVisiblePort && !source) open();
  if (!hasVisiblePort && source) closing = setTimeout(close, CLOSE_AFTER);
}

// A network that went away without a word leaves the stream open, and silent.
setInterval(() => {
  if (!source || Date.now() - lastEventAt < SILENT_AFTER) return;
  const since = lostAt ?? lastEventAt;
  close();
  lostAt = since;
  broadcast({ kind: "lost", since });
  updateStream();
}, 5000);

function catchUp(port, since) {
  if (since < logStart) {
    port.postMessage({ kind: "all" });
  } else {
    const missed = new Set(log.filter((entry) => entry.id > since).flatMap((entry) => entry.topics));
    if (missed.size) port.postMessage({ kind: "hint", topics: [...missed] });
  }
}

self.onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data.kind === "closed") {
      ports.delete(port);
    } else {
      const isNew = !ports.has(port);
      ports.set(port, { visible: data.kind === "visible", since: data.since });
      if (isNew && isOpen) catchUp(port, data.since);
      if (isOpen) port.postMessage({ kind: "open" });
      else if (lostAt && Date.now() - lostAt > LOST_AFTER) port.postMessage({ kind: "lost", since: lostAt });
    }
    updateStream();
  };
  port.start();
};
