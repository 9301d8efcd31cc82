/* The sandbox comes alive: answers appear where they were given, and the phone rings, speaks and takes keys.
   Without this, every button and key is a plain form that does the same. */
"use strict";
(() => {
  const speech = window.speechSynthesis;

  const TIMEOUT_MS = 15000; // after that the form goes the plain way, on which the browser says what it waits for

  async function send(form, extra) {
    const body = new FormData(form);
    for (const [name, value] of Object.entries(extra ?? {})) body.set(name, value);
    const response = await fetch(form.action, {
      method: "POST", body, headers: { Accept: "application/json" }, redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`${response.status}`);
    return response.json();
  }

  function line(form, kind, text) {
    const list = form.closest(".sandbox-card").querySelector("[data-answers]");
    const element = document.createElement("div");
    element.className = kind;
    element.dir = "auto";
    element.textContent = text;
    list.append(element);
    return element;
  }

  // What was answered stays until the reader goes on: the list may not be drawn anew over it.
  const keepOpen = (form) => form.closest(".sandbox-card").setAttribute("data-opened", "");

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-sandbox]");
    if (!form || event.defaultPrevented) return;
    event.preventDefault();
    keepOpen(form);
    const button = event.submitter;
    const kind = form.dataset.sandbox;
    // A phone takes every key, and a conversation every line; one tap on a button is one answer.
    if (kind === "act" && form.dataset.sent) return;
    form.dataset.sent = "yes";
    if (button) button.dataset.pressed = "yes";
    const text = kind === "text" ? form.elements.text.value : "";
    const bubble = text ? line(form, "bubble-out", text) : null;
    try {
      if (kind === "text") {
        form.elements.text.value = "";
        line(form, "bubble-in", (await send(form, { text })).text);
      } else if (kind === "act") {
        line(form, "answer-line", (await send(form, { command: button.value })).text);
        form.reset();
      } else {
        await press(callOf(form), button.value);
      }
    } catch {
      bubble?.remove();
      if (text) form.elements.text.value = text;
      form.removeAttribute("data-sandbox");
      delete form.dataset.sent;
      form.requestSubmit(button);
      return;
    }
    delete form.dataset.sent;
    if (button) delete button.dataset.pressed;
  });

  /* ---- the phone ---- */
  const calls = new WeakMap();

  function callOf(element) {
    const phone = element.closest("[data-call]");
    if (!calls.has(phone)) calls.set(phone, { phone, state: "waits", expectedDigit: "", utterance: 0 });
    return calls.get(phone);
  }

  function show(call, state) {
    call.state = state;
    const text = call.phone.querySelector("[data-call-state]");
    text.textContent = text.dataset[{ rings: "ringing", waits: "waiting", goes: "going", over: "over" }[state]];
    call.phone.classList.toggle("rings", state === "rings");
    call.phone.classList.toggle("over", state === "over");
    call.phone.querySelector("[data-pick-up]").hidden = state === "goes";
    call.phone.querySelector("[data-hang-up]").hidden = state === "over";
    if (state === "rings") ringFor(call); else silence(call);
  }

  // The ring of a phone: two tones, two seconds apart. Browsers allow it once somebody has touched the page.
  let sound = null;
  document.addEventListener("pointerdown", () => { sound ??= new AudioContext(); }, { once: true });

  function ringFor(call) {
    silence(call);
    const once = () => {
      if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.([300, 200, 300]);
      if (sound?.state !== "running") return;
      for (const [frequency, at] of [[440, 0], [480, 0], [440, 0.5], [480, 0.5]]) {
        const tone = sound.createOscillator();
        const loud = sound.createGain();
        tone.frequency.value = frequency;
        loud.gain.value = 0.04;
        tone.connect(loud).connect(sound.destination);
        tone.start(sound.currentTime + at);
        tone.stop(sound.currentTime + at + 0.4);
      }
    };
    once();
    call.ringing = setInterval(once, 2500);
    call.timeout = setTimeout(() => call.state === "rings" && show(call, "over"), 30000);
  }

  function silence(call) {
    clearInterval(call.ringing);
    clearTimeout(call.timeout);
  }

  function speak(call, parts, language, done) {
    const captions = call.phone.querySelector("[data-captions]");
    captions.replaceChildren(...parts.map((part) => Object.assign(document.createElement("p"), { textContent: part })));
    if (!speech) return done?.();
    speech.cancel();
    const utterance = ++call.utterance;
    parts.forEach((part, index) => {
      const spoken = new SpeechSynthesisUtterance(part);
      spoken.lang = language;
      spoken.rate = 0.95;
      if (index === parts.length - 1) spoken.onend = () => call.utterance === utterance && done?.();
      speech.speak(spoken);
    });
    return null;
  }

  // One key after the other: what a key does depends on what was asked before it.
  function press(call, digit) {
    const form = call.phone.querySelector("form");
    keepOpen(form);
    show(call, "goes");
    call.last = (call.last ?? Promise.resolve()).catch(() => {}).then(() => key(call, form, digit));
    return call.last;
  }

  async function key(call, form, digit) {
    const step = await send(form, { digit, expected_digit: call.expectedDigit });
    call.expectedDigit = step.expected_digit;
    call.phone.querySelectorAll(".key").forEach((key) => key.classList.toggle("works", step.keys.includes(key.value)));
    speak(call, step.sentences, step.language, step.is_over ? () => hangUp(call) : null);
    // Where the browser cannot speak aloud, the words stand there and the call has ended all the same.
    if (step.is_over && !(speech && speech.getVoices().length)) hangUp(call);
  }

  function hangUp(call) {
    call.utterance += 1;
    speech?.cancel();
    show(call, "over");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pick-up], [data-hang-up]");
    if (!button) return;
    const call = callOf(button);
    if (button.matches("[data-pick-up]")) press(call, "").catch(() => window.location.reload());
    else hangUp(call);
  });

  // A call of the last half minute rings; older ones can still be picked up.
  const FRESH = 30000;
  function begin(root) {
    root.querySelectorAll("[data-call]").forEach((phone) => {
      if (calls.has(phone)) return;
      const call = callOf(phone);
      phone.querySelector("[data-call-buttons]").hidden = false;
      const at = phone.closest(".sandbox-card").querySelector("header time")?.dateTime;
      const clockMeta = document.querySelector('meta[name="tocsin-now"]');
      const loaded = clockMeta ? Date.parse(clockMeta.content) - performance.timeOrigin : 0;
      const now = clockMeta ? performance.timeOrigin + loaded + performance.now() : Date.now();
      show(call, at && now - Date.parse(at) < FRESH ? "rings" : "waits");
    });
  }
  begin(document);
  document.addEventListener("tocsin:swapped", (event) => begin(event.target));
  window.addEventListener("pagehide", () => speech?.cancel());
})();
