/* What every page does beyond links and forms: times that stay true, copy buttons, guarded forms, menus.
   Nothing here decides anything; without it every page still reads and acts. */
"use strict";
(() => {
  const clockMeta = document.querySelector('meta[name="tocsin-now"]');
  const words = clockMeta.dataset;
  // The server's clock is the one that decides; this machine's may be off.
  const offset = Date.parse(clockMeta.content) - Date.now();
  const now = () => Date.now() + offset;

  /* ---- moments and countdowns: the same words as the server's ---- */
  function formatMoment(at, isAge) {
    const seconds = Math.trunc((now() - at) / 1000);
    const size = Math.abs(seconds);
    if (size < 45) return seconds > -10 ? words.just : words.soon;
    for (const [length, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
      const amount = Math.round(size / length);
      if (amount >= 1 && size >= length * 0.75) {
        if (isAge) return `${amount} ${words[name]}`;
        return (seconds > 0 ? words.ago : words.in).replace("{}", `${amount} ${words[name]}`);
      }
    }
    return words.just;
  }

  function formatTimeLeft(at) {
    const seconds = Math.trunc((at - now()) / 1000);
    if (seconds <= 0) return words.now;
    const hours = Math.trunc(seconds / 3600);
    if (hours >= 48) return words.days.replace("{}", Math.trunc(hours / 24));
    const two = (number) => String(number).padStart(2, "0");
    const minutes = Math.trunc((seconds % 3600) / 60);
    return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
  }

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  let ticks = 0;
  function tick() {
    document.querySelectorAll("time[data-countdown]").forEach((time) => {
      setText(time, formatTimeLeft(Date.parse(time.dateTime)));
      // What is offered until then is not possible any more.
      if (Date.parse(time.dateTime) <= now()) time.closest("[data-until-countdown]")?.setAttribute("hidden", "");
    });
    if (ticks++ % 10 === 0) {
      document.querySelectorAll("time[data-relative]").forEach((time) => setText(time, formatMoment(Date.parse(time.dateTime), time.dataset.relative === "age")));
    }
  }
  setInterval(() => document.hidden || tick(), 1000);
  document.addEventListener("visibilitychange", () => { ticks = 0; tick(); });

  /* ---- copy buttons ---- */
  function showCopyButtons(root) {
    if (!navigator.clipboard) return;
    root.querySelectorAll("[data-copy-button]").forEach((button) => { button.hidden = false; });
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy-button]");
    if (!button) return;
    const field = button.closest("[data-copy]").querySelector("input, textarea, pre");
    await navigator.clipboard.writeText(field.value ?? field.textContent.trimEnd());
    const label = button.querySelector("span");
    const before = label.textContent;
    label.textContent = button.dataset.done;
    setTimeout(() => { label.textContent = before; }, 1600);
  });

  /* ---- print buttons ---- */
  document.querySelectorAll("[data-print]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  });

  /* ---- the side bar as icons alone: a cookie, so that the next page comes that way ---- */
  const toggle = document.querySelector("[data-side-toggle]");
  if (toggle) {
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      const isCollapsed = document.querySelector(".shell").classList.toggle("icons-only");
      toggle.querySelector(".label").textContent = isCollapsed ? toggle.dataset.expand : toggle.dataset.collapse;
      document.querySelectorAll(".side li > :is(a, button)").forEach((entry) => {
        const label = entry.querySelector(".label");
        if (isCollapsed && label) entry.title = label.textContent;
        else if (label) entry.removeAttribute("title");
      });
      document.cookie = `tocsin_side=${isCollapsed ? "collapsed" : ""}; path=/; max-age=${isCollapsed ? 31536000 : 0}; SameSite=Lax`;
    });
  }

  /* ---- menus close when one looks elsewhere, or presses Escape ---- */
  document.addEventListener("click", (event) => {
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
  });

  /* ---- a form that a button opens is ready to be typed in ---- */
  document.addEventListener("toggle", (event) => {
    if (event.target.open && event.target.matches("details[data-menu-focus]")) event.target.querySelector("textarea")?.focus();
  }, true);

  /* ---- forms: a second press sends nothing twice; what was typed is not lost by a stray click ---- */
  const typed = new Set();
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-guard]");
    if (form && !event.target.matches("[data-search-choices]")) typed.add(form);
  });
  // A page that answers a form, with what is wrong or one row more, has saved nothing of it yet.
  if (document.documentElement.hasAttribute("data-form-response")) {
    document.querySelectorAll("form[data-guard]").forEach((form) => { if (form.action === window.location.href) typed.add(form); });
  }
  /* What is wrong with a form that came back is seen and heard at once, however far down or folded away it stands. */
  function focusFirstError() {
    const error = document.querySelector("main .errors:not(:empty)");
    if (!error) return;
    for (let details = error.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
    const field = error.closest(".field")?.querySelector("[aria-invalid=true]") ?? error;
    if (field === error) error.tabIndex = -1;
    if (!document.querySelector("main [autofocus]")) field.focus({ preventScroll: true });
    error.scrollIntoView({ block: "center" });
  }
  if (document.documentElement.hasAttribute("data-form-response")) focusFirstError();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    // The sandbox's phone takes one key after the other, and answers in place.
    if (event.defaultPrevented || form.hasAttribute("data-sandbox")) return;
    if (form.method !== "post") { typed.delete(form); return; }
    // What is pressed while an answer is awaited is meant for a page that is about to go.
    if (sentForm) { event.preventDefault(); return; }
    if (document.getElementById("failed") && !form.dataset.reached) {
      event.preventDefault();
      markSent(form, event.submitter);
      submitIfReachable(form, event.submitter);
      return;
    }
    delete form.dataset.reached;
    // Another form beside it, such as Acknowledge beside a reply that is begun, would lose what stands in this one.
    typed.delete(form);
    markSent(form, event.submitter);
    setTimeout(() => {
      if (sentForm !== form) return;
      // An action is not sent twice: whether it was done shows a new look at the page. What was typed may be sent again.
      const isGuarded = form.hasAttribute("data-guard");
      showFailure(isGuarded ? "slow" : "unanswered", isGuarded ? 60000 : 600000);
      if (isGuarded) markUnsent();
    }, ANSWER_TIMEOUT);
  });

  /* A button that was pressed is disabled until the answer is there. */
  const ANSWER_TIMEOUT = 10000;
  let sentForm = null;
  let sentButton = null;
  function markSent(form, submitter) {
    sentForm = form;
    form.dataset.sent = "yes";
    document.documentElement.dataset.sending = "yes";
    if (!submitter) return;
    sentButton = submitter;
    submitter.dataset.pressed = "yes";
    // Not before the browser has read the form: the value of a disabled button is not sent.
    setTimeout(() => { if (sentButton === submitter) submitter.disabled = true; }, 0);
  }
  function markUnsent() {
    if (sentForm) delete sentForm.dataset.sent;
    if (sentButton) { delete sentButton.dataset.pressed; sentButton.disabled = false; }
    delete document.documentElement.dataset.sending;
    sentForm = sentButton = null;
  }

  // Sent into the void, a form would make room for the browser's own page of an error, and what stood in it be gone.
  // A page notices late that the server is away, so each press asks first.
  async function submitIfReachable(form, submitter) {
    // A page for those who have not signed in, or that acts by its link, knows nothing of being signed out.
    const isGuarded = form.hasAttribute("data-guard") && "signedOut" in document.getElementById("failed").dataset;
    const problem = isGuarded ? await checkSignedIn() : await checkReachable();
    markUnsent();
    if (problem) { showFailure(problem, 60000); return; }
    renewToken(form);
    form.dataset.reached = "yes";
    form.requestSubmit(submitter);
  }

  // Whoever signed in again meanwhile, in another tab, has another token than the page. Returns the one that counts.
  function renewToken(form) {
    const field = form.querySelector("input[name=csrfmiddlewaretoken]");
    const pair = document.cookie.split("; ").find((one) => one.startsWith("tocsin_csrf="));
    const token = pair ? pair.slice("tocsin_csrf=".length) : field?.value ?? "";
    if (field) field.value = token;
    return token;
  }

  // Where nothing was typed, those who are signed out are led to where they sign in. A server that is only slow may hear
  // the press all the same: then it is sent, and the browser waits as long as it likes.
  async function checkReachable() {
    try {
      const response = await fetch("/offline/", { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(2000) });
      return response.ok ? "" : "unchanged";
    } catch (problem) {
      return problem.name === "TimeoutError" ? "" : "unchanged";
    }
  }

  async function checkSignedIn() {
    try {
      const response = await fetch("/api/v1/pause", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (response.ok) return "";
      return response.status === 401 ? "signedOut" : "unsent";
    } catch {
      return "unsent";
    }
  }
  window.addEventListener("pageshow", markUnsent);
  window.addEventListener("beforeunload", (event) => {
    if (![...typed].some((form) => form.isConnected)) return;
    event.preventDefault();
    // For a reader who stays, what was pressed is not sent.
    setTimeout(markUnsent, 0);
  });

  /* ---- what could not be fetched in place says so, instead of nothing ---- */
  let failedUntil = 0;
  function showFailure(kind, duration) {
    const box = document.getElementById("failed");
    if (!box) return;
    box.textContent = box.dataset[kind];
    box.hidden = false;
    clearTimeout(failedUntil);
    failedUntil = setTimeout(() => { box.hidden = true; }, duration);
  }
  // 401: signed out meanwhile; 413: too much was pasted; none: no answer came.
  function showLoadError(status) {
    showFailure({ 401: "ended", 413: "large" }[status] ?? "text", 8000);
  }
  for (const kind of ["sendError", "timeout", "responseError"]) {
    document.addEventListener(`htmx:${kind}`, (event) => {
      showLoadError(kind === "responseError" ? event.detail.xhr.status : 0);
      // What a page fetches as it opens is asked for once: instead of its promise stands the way to ask again.
      event.detail.elt.querySelectorAll?.("[data-show-on-error]").forEach((part) => { part.hidden = false; });
      event.detail.elt.querySelectorAll?.("[data-hide-on-error]").forEach((part) => { part.hidden = true; });
    });
  }
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb === "get") return;
    const form = event.detail.elt.closest("form") ?? document;
    const token = renewToken(form);
    event.detail.headers["X-CSRFToken"] = token;
    if (event.detail.formData.has("csrfmiddlewaretoken")) event.detail.formData.set("csrfmiddlewaretoken", token);
  });
  // It comes after an answer that is an error, too.
  document.addEventListener("htmx:afterOnLoad", (event) => {
    const box = document.getElementById("failed");
    if (box && event.detail.successful) box.hidden = true;
  });

  /* ---- lists: choose many ---- */
  function countSelected(form) {
    const boxes = [...form.querySelectorAll("input[name=alert]")];
    const chosen = boxes.filter((box) => box.checked);
    // A storm's box stands for all its alerts.
    const selected = chosen.flatMap((box) => box.value.split(" ")).length;
    const bar = form.querySelector("[data-bulk]");
    if (!bar) return;
    bar.hidden = chosen.length === 0;
    const page = form.querySelector("[data-choose-all]");
    if (page) { page.checked = chosen.length === boxes.length; page.indeterminate = chosen.length > 0 && !page.checked; }
    // The whole list is meant only as long as everything that one sees of it is chosen.
    const list = form.querySelector("[data-choose-list]");
    if (list && chosen.length < boxes.length) list.checked = false;
    const count = bar.querySelector("[data-bulk-count]");
    if (count) count.textContent = list?.checked && count.dataset.total ? count.dataset.total : selected;
  }
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-choose-all]")) {
      box.form.querySelectorAll("input[name=alert]").forEach((one) => { one.checked = box.checked; });
    }
    if (box.form && box.form.matches("[data-bulk-form]")) countSelected(box.form);
    if (box.matches("[data-submit-on-change]")) box.form.requestSubmit();
  });

  /* ---- forms of several alike parts: one more, one less, another order. A part may have such parts of its own ---- */
  const formsetOf = (element) => element.closest("[data-formset]");
  const findInFormset = (set, selector) => [...set.querySelectorAll(selector)].filter((one) => formsetOf(one) === set);
  const holderOf = (part) => (part?.parentElement.matches("li") ? part.parentElement : part);
  const totalOf = (set) => set.querySelector(`input[name="${set.dataset.formset}-TOTAL_FORMS"]`);

  // Names follow the order. In two passes, so that no radio buttons of two parts are one group meanwhile.
  function renumber(set) {
    // An answer under way names the parts by their old order.
    window.htmx?.trigger(set, "htmx:abort");
    const prefix = set.dataset.formset;
    const parts = findInFormset(set, "[data-formset-form]");
    const ofPart = new RegExp(`(^|id_|\\s)(?:${prefix}|moved)-\\d+-`, "g");
    for (const name of ["moved", prefix]) parts.forEach((part, index) => {
      part.querySelectorAll("*").forEach((element) => [...element.attributes].forEach((attribute) => {
        if (attribute.name !== "value") attribute.value = attribute.value.replace(ofPart, `$1${name}-${index}-`);
      }));
      findInFormset(set, "[data-formset-number]").forEach((number) => {
        if (part.contains(number)) number.textContent = index + 1;
      });
    });
    totalOf(set).value = parts.length;
    for (const kind of ["input", "change"]) set.dispatchEvent(new Event(kind, { bubbles: true }));
  }

  function addPart(set) {
    const [empty] = findInFormset(set, "template[data-formset-empty]");
    const holder = document.createElement("div");
    // A part inside of this one keeps its own mark.
    const prefix = `${set.dataset.formset}-${totalOf(set).value}`;
    holder.innerHTML = empty.innerHTML.replace(/(["\s](?:id_)?)[\w-]*?-__prefix__/g, `$1${prefix}`);
    const part = holder.firstElementChild;
    empty.before(part);
    renumber(set);
    // Of parts that fold, the new one is opened, which closes the others.
    part.querySelector("details[name]")?.setAttribute("open", "");
    part.querySelector("input:not([type=hidden], [type=checkbox], [type=search]), select, textarea")?.focus();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-formset-add], [data-formset-move], [data-formset-remove]");
    const set = button && formsetOf(button);
    if (!set) return;
    if (button.hasAttribute("data-formset-add")) { addPart(set); return; }
    const parts = findInFormset(set, "[data-formset-form]");
    const index = parts.indexOf(button.closest("[data-formset-form]"));
    const direction = Number(button.dataset.formsetMove ?? 0);
    const other = holderOf(parts[index + direction]);
    if (!other) return;
    if (!direction) other.remove();
    else if (direction < 0) other.before(holderOf(parts[index]));
    else other.after(holderOf(parts[index]));
    renumber(set);
    if (direction) button.focus(); else findInFormset(set, "[data-formset-add]")[0].focus();
  });
  document.querySelectorAll("[data-formset-add]").forEach((add) => { add.hidden = false; });
  // The empty part at the end is for browsers without scripts.
  document.querySelectorAll("[data-formset-extra]").forEach((part) => {
    const total = totalOf(formsetOf(part));
    part.remove();
    total.value = Number(total.value) - 1;
  });

  /* ---- long lists of choices are searched; what is chosen stays in sight ---- */
  document.addEventListener("input", (event) => {
    const search = event.target.closest?.("[data-search-choices]");
    if (!search) return;
    const terms = search.value.toLocaleLowerCase().split(/\s+/);
    search.parentElement.querySelectorAll(".check").forEach((choice) => {
      const text = choice.textContent.toLocaleLowerCase();
      choice.hidden = !choice.querySelector("input").checked && !terms.every((term) => text.includes(term));
    });
  });
  // Enter chooses the only match instead of sending the form.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches?.("[data-search-choices]")) return;
    event.preventDefault();
    const matches = [...event.target.parentElement.querySelectorAll(".check:not([hidden]) input:not(:checked)")];
    if (matches.length !== 1) return;
    matches[0].click();
    event.target.select();
  });

  /* ---- a choice moves to the chosen ones, and back ---- */
  document.addEventListener("change", (event) => {
    const choice = event.target.closest?.("[data-picker] .check");
    if (!choice) return;
    const picker = choice.closest("[data-picker]");
    const list = picker.querySelector(".picker-list");
    const isFocused = choice.contains(document.activeElement);
    if (event.target.checked) picker.querySelector(".picker-chosen").append(choice);
    else list.querySelector("[data-search-choices]").after(choice);
    if (isFocused) (list.parentElement.open ? list.firstElementChild : list.previousElementSibling).focus();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.open && event.target.closest("[data-picker]")) event.target.querySelector("[data-search-choices]").focus();
  }, true);
  /* ---- what is open in place is closed from inside: by its button, or by Escape ---- */
  function closeDetails(details) {
    details.open = false;
    details.querySelector("summary").focus();
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-close-details]");
    if (button) closeDetails(button.closest("details[name]"));
  });
  document.addEventListener("keydown", (event) => {
    const details = event.key === "Escape" && event.target.closest?.(".picker > details[open], details[name][open]");
    if (details) closeDetails(details);
  });

  /* ---- rows that open in place: htmx fetches, this shows and hides; with Ctrl or without scripts it is a link ---- */
  document.addEventListener("htmx:confirm", (event) => {
    const id = event.target.dataset && event.target.dataset.toggleRow;
    if (!id) return;
    const cell = document.getElementById(id);
    const row = cell.closest("tr");
    if (!row.hidden) {
      event.preventDefault();
      row.hidden = true;
      cell.replaceChildren();
      event.target.setAttribute("aria-expanded", "false");
    }
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const row = event.target.closest ? event.target.closest("tr.opened-row") : null;
    if (!row) return;
    row.hidden = false;
    document.querySelector(`[data-toggle-row="${event.target.id}"]`)?.setAttribute("aria-expanded", "true");
  });

  /* ---- a form for something new offers this browser's own time zone ---- */
  document.querySelectorAll("select[data-zones]").forEach((select) => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const localZone = [...select.options].find((option) => option.value === zone);
    if (localZone && (select.value === "UTC" || !select.value)) localZone.selected = true;
  });
  /* ---- countries by the name they have in the reader's language, where the browser knows it ---- */
  document.querySelectorAll("select[data-countries]").forEach((select) => {
    const lang = document.documentElement.lang;
    const names = new Intl.DisplayNames([lang], { type: "region" });
    const countries = [...select.options].filter((option) => /^[A-Z]{2}$/.test(option.value));
    countries.forEach((option) => (option.text = names.of(option.value)));
    select.append(...countries.sort((one, other) => one.text.localeCompare(other.text, lang)));
  });
  if (window.PublicKeyCredential) {
    const passkey = document.getElementById("passkey_login");
    if (passkey) passkey.hidden = false;
  }
  // The account library tells its console alone that the browser gave no key.
  document.addEventListener("allauth.error", (event) => {
    const failed = document.getElementById("key-failed");
    if (!failed) return;
    event.preventDefault();
    failed.hidden = false;
  });

  /* ---- the chosen tab is in sight, also where tabs scroll; the first is anyway, and asking for places costs time ---- */
  document.querySelectorAll(".tabs [aria-current]:not(:first-child)").forEach((tab) => {
    tab.parentElement.scrollLeft = Math.max(0, tab.offsetLeft - tab.parentElement.offsetLeft - 60);
  });

  function start(root) {
    showCopyButtons(root);
    root.querySelectorAll("[data-bulk-form]").forEach(countSelected);
    ticks = 0;
    tick();
  }
  document.addEventListener("htmx:load", (event) => start(event.detail.elt));
  document.addEventListener("tocsin:swapped", (event) => start(event.target));
  start(document);

  /* ---- the installed app: static files at hand, and a page that says when there is no connection ---- */
  if ("serviceWorker" in navigator && window.isSecureContext) {
    window.addEventListener("load", () => {
      // Refused where the browser allows no storage: everything but the offline page works without it.
      navigator.serviceWorker.register("/service-worker.js", { scope: "/", updateViaCache: "none" }).catch(() => {});
    });
  }
  window.tocsin = { now, renewToken, showLoadError };
})();
