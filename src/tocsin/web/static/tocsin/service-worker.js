/* What stays on the device: static files, and a page that says that there is no connection. It is served from
   /service-worker.js, with `tocsin` (this version's addresses) set before it.

   A page is never kept: an old list of alerts must not pass for what is the case now. */
"use strict";

importScripts(tocsin.push);

const CACHE = `tocsin-${tocsin.version}`;
const STATE = "tocsin-state"; // when the server last answered, and since when it does not
const STATE_KEY = "/service-worker-state";

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(tocsin.files);
    await cache.add(new Request(tocsin.offline, { cache: "reload", credentials: "omit" }));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name !== CACHE && name !== STATE) await caches.delete(name);
    }
    if (self.registration.navigationPreload) await self.registration.navigationPreload.enable();
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate") event.respondWith(navigate(event));
  else if (url.pathname.startsWith(tocsin.static)) event.respondWith(fromCache(request));
});

/* ---- pages: from the server, or the page that says so ---- */
async function navigate(event) {
  try {
    const response = (await event.preloadResponse) || (await fetch(event.request));
    event.waitUntil(recordResponse());
    return response;
  } catch {
    return offline();
  }
}

async function offline() {
  const { reached, lost } = await state();
  const since = lost ?? Date.now();
  if (!lost) await saveState({ reached, lost: since });
  const response = await caches.match(tocsin.offline);
  if (!response) return Response.error();
  const text = (await response.text()).replace('data-since=""', `data-since="${since}"`).replace('data-reached=""', `data-reached="${reached ?? ""}"`);
  return new Response(text, { status: 503, headers: response.headers });
}

/* ---- static files: their address changes with their content, so what is kept is right ---- */
async function fromCache(request) {
  const cache = await caches.open(CACHE);
  const cached = await cache.match(request, { ignoreVary: true });
  if (cached) return cached;
  const response = await fetch(request);
  if (response.ok && response.status === 200) await cache.put(request, response.clone());
  return response;
}

/* ---- since when ---- */
let cachedState = null;

async function state() {
  if (cachedState) return cachedState;
  const cached = await (await caches.open(STATE)).match(STATE_KEY);
  cachedState = cached ? await cached.json() : {};
  return cachedState;
}

async function saveState(next) {
  cachedState = next;
  await (await caches.open(STATE)).put(STATE_KEY, new Response(JSON.stringify(next)));
}

async function recordResponse() {
  const before = await state();
  const now = Date.now();
  // Once a minute is exact enough, and spares the disk.
  if (before.lost || !(now - before.reached < 60000)) await saveState({ reached: now });
}

// Pages hear of a lost connection before anybody opens another one.
self.addEventListener("message", (event) => {
  const { kind, since } = event.data ?? {};
  if (kind === "lost") event.waitUntil(state().then((before) => (before.lost ? null : saveState({ ...before, lost: since }))));
  if (kind === "open") event.waitUntil(recordResponse());
});
