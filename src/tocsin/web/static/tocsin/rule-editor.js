/* The workbench: a click on a value of the payload fills the field that has the focus, paths complete, routes are dragged.
   Everything is decided by the server, and everything works without this as a plain form. */
"use strict";
(() => {
  const editor = () => document.querySelector("form[data-editor]");
  let current = null; // the field that a click fills, by its name: elements are replaced
  const opened = new Map(); // details by id: whether somebody opened or closed them

  const field = () => (current && editor()?.elements[current]) || null;

  /* ---- which field has the focus ---- */
  document.addEventListener("focusin", (event) => {
    const one = event.target.closest("form[data-editor] [data-fill]");
    if (!one) return;
    current = one.name;
    const target = editor().querySelector("[data-target]");
    const name = one.dataset.fill.replace(/^f-/, "");
    if (target && [...target.options].some((option) => option.value === name)) target.value = name;
    mark();
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("form[data-editor] [data-target]")) return;
    const one = document.getElementById(`f-${event.target.value}-text`);
    if (one) { current = one.name; one.closest("details")?.setAttribute("open", ""); mark(); }
  });
  function mark() {
    document.querySelectorAll(".filling").forEach((row) => row.classList.remove("filling"));
    field()?.closest("[data-row]")?.classList.add("filling");
  }

  /* ---- a click on a value ---- */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-tree] button[data-path]");
    const one = field();
    if (!button || !one) return; // without a field the server fills the one that the select names
    event.preventDefault();
    fill(one, button.dataset.path, event.shiftKey);
    button.closest("[data-tree]").querySelectorAll("button").forEach((other) => other.classList.toggle("used", other === button));
  });
  function fill(one, path, append) {
    const origin = originOf(one);
    if (origin === "template" || one.hasAttribute("data-template")) {
      one.setRangeText(`<${path}>`, one.selectionStart, one.selectionEnd, "end");
    } else if (one.hasAttribute("data-plain")) {
      one.value = path;
    } else if (append && one.value.trim()) {
      one.value = `${one.value.replace(/\s+$/, "")}\n${path}`;
    } else {
      const begin = one.value.lastIndexOf("\n", one.selectionStart - 1) + 1;
      const end = one.value.indexOf("\n", begin);
      one.setRangeText(path, begin, end < 0 ? one.value.length : end, "end");
      if (origin !== "paths") setOrigin(one, "paths");
    }
    notifyInput(one);
  }
  const originField = (one) => one.closest("[data-row]")?.querySelector("[data-origin]") || null;
  const originOf = (one) => originField(one)?.value ?? "";
  function setOrigin(one, origin) { const select = originField(one); if (select) select.value = origin; }
  document.addEventListener("change", (event) => { if (event.target.matches("[data-origin]")) delete event.target.dataset.guessed; });
  function notifyInput(one) { one.dispatchEvent(new Event("input", { bubbles: true })); }

  /* ---- somebody writes where nothing was set: then it is set ---- */
  document.addEventListener("input", (event) => {
    const one = event.target;
    if (!one.matches("form[data-editor] textarea[data-fill]")) return;
    const select = originField(one);
    if (select && one.value.trim() && (select.value === "" || select.dataset.guessed)) {
      select.value = one.value.includes("<") ? "template" : "paths";
      select.dataset.guessed = "yes";
    }
    complete(one);
  }, true);

  /* ---- the arrows walk through the values: one stop of the Tab key, not hundreds ---- */
  function initTreeFocus(root) {
    root.querySelectorAll("[data-tree]").forEach((tree) => {
      tree.querySelectorAll("button").forEach((button, number) => { button.tabIndex = number ? -1 : 0; });
    });
  }
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("[data-tree] button");
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!button || !step) return;
    const all = [...button.closest("[data-tree]").querySelectorAll("button")];
    const next = all[all.indexOf(button) + step];
    if (!next) return;
    event.preventDefault();
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  /* ---- completion of paths ---- */
  let list = null;
  function complete(one) {
    close();
    const before = one.value.slice(0, one.selectionStart);
    const isTemplate = originOf(one) === "template" || one.hasAttribute("data-template");
    const match = isTemplate ? /<([^<>\n]*)$/.exec(before) : /(?:^|\n)([^\n]*)$/.exec(before);
    if (!match || (!isTemplate && !match[1])) return;
    const query = match[1].toLowerCase();
    const paths = [...new Set([...document.querySelectorAll("[data-tree] [data-path]")].map((node) => node.dataset.path))]
      .filter((path) => path.toLowerCase().includes(query) && path !== match[1]).slice(0, 8);
    if (!paths.length) return;
    list = document.createElement("ul");
    list.className = "completion";
    list.id = "completion";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", one.labels?.[0]?.textContent || one.getAttribute("aria-label") || "");
    for (const [number, path] of paths.entries()) {
      const item = document.createElement("li");
      item.id = `completion-${number}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.textContent = path;
      item.addEventListener("mousedown", (event) => { event.preventDefault(); insertPath(one, match[1], path, isTemplate); });
      list.append(item);
    }
    one.parentElement.append(list);
    one.setAttribute("aria-controls", list.id);
    list.field = one;
    list.query = match[1];
    list.isTemplate = isTemplate;
  }
  function insertPath(one, typed, path, isTemplate) {
    const at = one.selectionStart;
    const closed = one.value[at] === ">";
    one.setRangeText(path + (isTemplate && !closed ? ">" : ""), at - typed.length, at, "end");
    close();
    one.dispatchEvent(new Event("change", { bubbles: true }));
  }
  function close() {
    for (const name of ["aria-activedescendant", "aria-controls"]) list?.field?.removeAttribute(name);
    list?.remove();
    list = null;
  }
  document.addEventListener("keydown", (event) => {
    if (!list || event.target !== list.field) return;
    const items = [...list.children];
    let at = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
    if (event.key === "Escape") { close(); return; }
    if ((event.key === "Enter" || event.key === "Tab") && at >= 0) {
      event.preventDefault();
      insertPath(list.field, list.query, items[at].textContent, list.isTemplate);
      return;
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    at = (at + (event.key === "ArrowDown" ? 1 : items.length - 1) + (at < 0 && event.key === "ArrowUp" ? 1 : 0)) % items.length;
    items.forEach((item, number) => item.setAttribute("aria-selected", String(number === at)));
    list.field.setAttribute("aria-activedescendant", items[at].id);
  });
  document.addEventListener("focusout", () => setTimeout(() => { if (list && document.activeElement !== list.field) close(); }, 100));

  /* ---- buttons that change rows: the form goes and comes back whole, without a new page ---- */
  const TIMEOUT_MS = 30000;

  async function press(value, focusOn) {
    const form = editor();
    const token = window.tocsin.renewToken(form);
    const data = new FormData(form);
    data.set("do", value);
    form.setAttribute("aria-busy", "true");
    let fresh = null;
    let status = 0;
    try {
      const options = { method: "POST", body: data, headers: { "X-Part": "editor", "X-CSRFToken": token }, signal: AbortSignal.timeout(TIMEOUT_MS) };
      const response = await fetch(form.dataset.path, options);
      status = response.status;
      if (response.ok) fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("editor");
    } catch { /* no answer came: said below */ }
    // What stands in the form stays.
    if (!fresh) { form.removeAttribute("aria-busy"); window.tocsin.showLoadError(status); return; }
    const element = document.importNode(fresh, true);
    form.replaceWith(element);
    window.htmx?.process(element);
    element.dispatchEvent(new CustomEvent("tocsin:swapped", { bubbles: true }));
    restoreState();
    (focusOn && focusOn(element))?.focus({ preventScroll: false });
  }
  const last = (root, selector) => [...root.querySelectorAll(selector)].pop();
  function focusAfter(button) {
    const value = button.value;
    const [action, row, direction] = value.split(":");
    return (form) => {
      if (action === "cond" && direction !== "remove") return last(form, `[data-row="${CSS.escape(row)}"] [data-plain]`);
      if (action === "add") return last(form, row === "tag" ? "#tags [data-row] input" : "#custom-fields [data-row] input");
      if (action === "route" && direction === "add") return last(form, ".route .route-name");
      if (action === "route" && (direction === "up" || direction === "down")) {
        const number = Number(row) + (direction === "up" ? -1 : 1);
        return [...form.querySelectorAll(`.route[data-route="${number}"] button`)].find((one) => one.value.endsWith(direction) && !one.disabled)
          || form.querySelector(`.route[data-route="${number}"] .route-name`);
      }
      return form.querySelector(".editor-tab button, .editor-tab input:not([type=hidden])");
    };
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("form[data-editor] button[data-act]");
    if (!button) return;
    event.preventDefault();
    press(button.value, focusAfter(button));
  });
  document.addEventListener("change", (event) => {
    const one = event.target.closest("form[data-editor] [data-reload]");
    if (!one) return;
    event.stopPropagation();
    press("show", (form) => form.elements[one.name]);
  }, true);

  /* ---- trying on the last messages: the numbers move while it runs ---- */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-backtest]");
    const section = document.getElementById("backtest");
    if (!button || !section) return;
    event.preventDefault();
    const form = editor();
    const bar = document.createElement("progress");
    bar.setAttribute("aria-label", button.textContent.trim());
    section.replaceChildren(bar);
    bar.scrollIntoView({ block: "nearest" });
    button.disabled = true;
    let status = 0;
    try {
      const token = window.tocsin.renewToken(form);
      const data = new FormData(form);
      const response = await fetch(form.dataset.backtest, { method: "POST", body: data, headers: { "X-Part": "backtest", "X-CSRFToken": token } });
      status = response.status;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const steps = text.match(/^\d+ \d+$/gm);
        if (steps && text.indexOf("<") < 0) [bar.value, bar.max] = steps.pop().split(" ").map(Number);
      }
      const fresh = new DOMParser().parseFromString(text.slice(text.indexOf("<")), "text/html").getElementById("backtest");
      document.getElementById("backtest").replaceWith(document.importNode(fresh, true));
      document.getElementById("backtest").dispatchEvent(new CustomEvent("tocsin:swapped", { bubbles: true }));
      document.getElementById("backtest").scrollIntoView({ block: "nearest" });
    } catch { bar.remove(); window.tocsin.showLoadError(status); }
    button.disabled = false;
  });

  /* ---- routes are dragged; the arrows beside them do the same for a keyboard ---- */
  let dragged = null;
  document.addEventListener("dragstart", (event) => {
    const grip = event.target.closest?.("[data-grip]");
    if (!grip) return;
    dragged = grip.closest(".route");
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setDragImage(dragged, 10, 10);
  });
  document.addEventListener("dragover", (event) => {
    const dropTarget = dragged && event.target.closest?.(".route");
    if (!dropTarget) return;
    event.preventDefault();
    document.querySelectorAll(".drop").forEach((one) => one.classList.remove("drop"));
    if (dropTarget !== dragged) dropTarget.classList.add("drop");
  });
  document.addEventListener("drop", (event) => {
    const dropTarget = dragged && event.target.closest?.(".route");
    if (!dropTarget || dropTarget === dragged) return;
    event.preventDefault();
    press(`route:${dragged.dataset.route}:to-${dropTarget.dataset.route}`);
  });
  document.addEventListener("dragend", () => {
    dragged = null;
    document.querySelectorAll(".drop").forEach((one) => one.classList.remove("drop"));
  });

  /* ---- what somebody opened stays open when it is drawn again ---- */
  document.addEventListener("toggle", (event) => {
    if (event.target.id && event.target.matches("[data-keeps-open]")) opened.set(event.target.id, event.target.open);
  }, true);
  function restoreState() {
    for (const [id, isOpen] of opened) {
      const details = document.getElementById(id);
      if (details && isOpen) details.open = true;
    }
    initTreeFocus(document);
    mark();
  }
  document.addEventListener("htmx:oobAfterSwap", restoreState);
  initTreeFocus(document);
})();
