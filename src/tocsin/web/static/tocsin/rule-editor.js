/* The workbench: a click on a value of the payload fills the field that was chosen last, or adds a condition; paths
   complete, routes are dragged. Everything is decided by the server, and everything works without this as a plain form. */
"use strict";
(() => {
  const editor = () => document.querySelector("form[data-editor]");
  let current = null; // the field that a click fills, by its name: elements are replaced
  let currentRow = null; // the row of conditions that a click adds to
  const opened = new Map(); // details by id: whether somebody opened or closed them

  const isMapping = () => editor()?.dataset.tab === "mapping";
  const fieldOfTarget = (name) => editor()?.elements[`f-${name}-text`] ?? editor()?.elements[`${name}-text`] ?? editor()?.elements[name];
  const targetSelect = () => editor()?.querySelector("[data-target]");
  const field = () => (current && editor()?.elements[current]) || fieldOfTarget(targetSelect()?.value) || null;

  /* ---- which field was chosen last: by any control of its row, or by the select above the payload ---- */
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest("form[data-editor] .editor-tab [data-row]");
    if (!row) return;
    currentRow = row.dataset.row;
    current = (event.target.matches("[data-fill]") ? event.target : row.querySelector("[data-fill]"))?.name ?? null;
    const target = targetSelect();
    const name = currentRow.replace(/^f-/, "");
    const option = [...(target?.options ?? [])].find((one) => one.value === name || name.startsWith(`${one.value}.`));
    if (option) target.value = option.value;
    mark();
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("form[data-editor] [data-target]")) return;
    current = null;
    currentRow = event.target.value;
    if (isMapping()) field()?.closest("details")?.setAttribute("open", "");
    mark();
  });
  document.addEventListener("input", (event) => {
    const option = event.target.matches("form[data-editor] input[name$='-name']") && targetSelect()?.selectedOptions[0];
    if (option && event.target.value && event.target.name === `${option.value}-name`) option.text = event.target.value;
  });
  function mark() {
    document.querySelectorAll(".filling").forEach((row) => row.classList.remove("filling"));
    const row = isMapping() ? field()?.closest("[data-row]") : document.querySelector(`.editor-tab [data-row="${CSS.escape(currentRow ?? "")}"]`);
    row?.classList.add("filling");
  }

  /* ---- what changed is shown, and undone by the form as it was ---- */
  const NOT_ROWS = ["csrfmiddlewaretoken", "snapshot", "chosen", "payload", "yaml", "yaml_digest", "undo", "reviewed", "do"];
  function rowsNow() {
    const data = new FormData(editor());
    NOT_ROWS.forEach((name) => data.delete(name));
    return new URLSearchParams(data).toString();
  }
  function showChange(one, text, before) {
    const row = one.closest("[data-row]");
    const label = one.labels?.[0]?.textContent || row?.querySelector("input[name$=-name]")?.value || "";
    const note = document.getElementById("changed");
    note.querySelector("bdi").textContent = label ? `${label.trim()}: ${text}` : text;
    note.querySelector("input").value = before;
    note.hidden = false;
  }
  document.addEventListener("input", (event) => {
    const note = document.getElementById("changed");
    // An undo would lose what is typed since.
    if (note && event.isTrusted && event.target.closest("form[data-editor] .editor-tab")) {
      note.hidden = true;
      note.querySelector("input").value = "";
      document.getElementById("save-review")?.remove(); // it described the form as it was
    }
  }, true);

  /* ---- a click on a value ---- */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-tree] button[data-path]");
    if (!button) return;
    event.preventDefault();
    const path = button.dataset.path;
    if (!isMapping()) {
      press(`pick:${path}`, (form) => form.querySelector(`[data-path="${CSS.escape(path)}"]`));
      return;
    }
    const one = field();
    // Nothing is filled by a stray click: first a field is chosen.
    if (!one) { targetSelect()?.focus(); return; }
    const before = rowsNow();
    fill(one, path, event.shiftKey);
    showChange(one, path, before);
    button.closest("[data-tree]").querySelectorAll("button").forEach((other) => other.classList.toggle("used", other === button));
  });
  function fill(one, path, append) {
    const origin = originOf(one);
    if (origin === "template" || one.hasAttribute("data-template")) {
      one.setRangeText(`<${path}>`, one.selectionStart, one.selectionEnd, "end");
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
  document.addEventListener("change", (event) => {
    const select = event.target;
    if (!select.matches("[data-origin]")) return;
    delete select.dataset.guessed;
    const row = select.closest("[data-row]");
    const earlier = select.dataset.chosen || row.querySelector("[name$=-shown]").value || "paths";
    select.dataset.chosen = select.value;
    const filled = [...row.querySelectorAll("textarea")].filter((one) => one.value.trim());
    if (select.value || !filled.length) return;
    // The default takes the place of what stands there.
    select.value = earlier;
    const before = rowsNow();
    select.value = "";
    filled.forEach((one) => { one.value = ""; });
    showChange(row.querySelector("[data-fill]"), select.selectedOptions[0].textContent, before);
    notifyInput(row.querySelector("[data-fill]"));
  }, true);
  document.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-origin]")) event.target.dataset.chosen = event.target.value;
  });
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

  // One after the other, since each answer is the whole form. A second tap on the same button is none.
  const pressed = [];
  function press(value, focusOn) {
    if (pressed.some((one) => one.value === value)) return;
    pressed.push({ value, focusOn, row: isMapping() ? null : currentRow });
    if (pressed.length === 1) sendPressed();
  }
  async function sendPressed() {
    while (pressed.length) {
      await send(pressed[0]);
      pressed.shift();
    }
  }
  async function send({ value, focusOn, row }) {
    document.getElementById("save-review")?.remove();
    let form, before;
    let fresh = null;
    let status = 0;
    do { // again, if somebody typed meanwhile
      form = editor();
      const token = window.tocsin.renewToken(form);
      before = rowsNow();
      const data = new FormData(form);
      data.set("do", value);
      if (row) data.set("target", row);
      form.setAttribute("aria-busy", "true");
      fresh = null;
      try {
        const options = { method: "POST", body: data, headers: { "X-Part": "editor", "X-CSRFToken": token }, signal: AbortSignal.timeout(TIMEOUT_MS) };
        const response = await fetch(form.dataset.path, options);
        status = response.status;
        if (response.ok) fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("editor");
      } catch { /* no answer came: said below */ }
    } while (fresh && rowsNow() !== before);
    // What stands in the form stays.
    if (!fresh) { form.removeAttribute("aria-busy"); window.tocsin.showLoadError(status); return; }
    const element = document.importNode(fresh, true);
    form.replaceWith(element);
    window.htmx?.process(element);
    element.dispatchEvent(new CustomEvent("tocsin:swapped", { bubbles: true }));
    if (value.startsWith("remove:") || value.startsWith("route:")) current = currentRow = null;
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
    // Of several with one name, such as a route's groups, the last adds another.
    press("show", (form) => [...form.querySelectorAll(`[name="${CSS.escape(one.name)}"]`)].pop());
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
