/* The command palette (Ctrl K, on a Mac ⌘ K): views and actions at once, what the search finds a moment later. The
   dialog keeps the focus; the field keeps it while the arrows move through the options, each of which is a link. */
"use strict";
(() => {
  const palette = document.getElementById("palette");
  const field = palette.querySelector("[role=combobox]");
  const hits = document.getElementById("palette-hits");
  const search = palette.querySelector("[data-palette-search]");
  const groups = [...palette.querySelectorAll("[data-palette-group]")];
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  let hasMoved = false; // with the arrows: later results do not take the selection
  let isStale = false; // the results belong to an earlier text
  let isEntered = false; // Enter was pressed before the results were there

  const normalize = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLocaleLowerCase().trim();
  const options = () => [...palette.querySelectorAll("[role=option]")].filter((option) => !option.closest("[hidden]"));
  const selected = () => palette.querySelector("[role=option][aria-selected=true]");

  function select(option) {
    selected()?.setAttribute("aria-selected", "false");
    option?.setAttribute("aria-selected", "true");
    if (option) field.setAttribute("aria-activedescendant", option.id);
    else field.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  /* Numbers the options that are shown, and keeps the selection, or selects the first. */
  function refresh() {
    const shown = options();
    shown.forEach((option, index) => { option.id = `palette-option-${index}`; });
    select(hasMoved && shown.includes(selected()) ? selected() : shown[0]);
  }

  function filter() {
    const words = normalize(field.value).split(/\s+/);
    for (const group of groups) {
      const all = [...group.querySelectorAll("[role=option]")];
      for (const option of all) {
        const label = normalize(option.querySelector("span").textContent);
        option.hidden = !words.every((word) => label.includes(word));
      }
      group.hidden = all.every((option) => option.hidden);
    }
    const text = field.value.trim();
    search.hidden = !text;
    search.href = `${search.pathname}?${new URLSearchParams({ q: text })}`;
    search.querySelector("bdi").textContent = search.dataset.text.replace("{text}", text);
    if (!text) hits.replaceChildren();
    isStale = Boolean(text);
    hasMoved = isEntered = false;
    refresh();
  }

  function open() {
    field.value = "";
    filter();
    palette.showModal();
    field.focus();
  }

  function follow() {
    // Results of an earlier text are not what was meant: Enter waits for those of this one.
    if (isStale && !hasMoved && selected()?.closest("[data-palette-group]") === null) isEntered = true;
    else selected()?.click();
  }

  function move(step) {
    const shown = options();
    hasMoved = true;
    select(shown[(shown.indexOf(selected()) + step + shown.length) % shown.length]);
  }

  field.addEventListener("input", filter);
  hits.addEventListener("htmx:afterSwap", () => {
    isStale = false;
    refresh();
    if (isEntered) follow();
  });
  for (const kind of ["sendError", "timeout", "responseError"]) {
    field.addEventListener(`htmx:${kind}`, () => { isStale = isEntered = false; });
  }
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(-1);
    else if (event.key === "Enter") follow();
    else return;
    event.preventDefault();
  });
  palette.addEventListener("click", (event) => {
    if (event.target === palette || event.target.closest("[data-palette-close]")) palette.close();
  });
  palette.addEventListener("close", () => window.htmx?.trigger(field, "htmx:abort"));

  document.addEventListener("keydown", (event) => {
    const isPressed = (isMac ? event.metaKey : event.ctrlKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k";
    if (!isPressed || event.repeat || document.documentElement.hasAttribute("data-shortcuts-off")) return;
    event.preventDefault();
    if (palette.open) palette.close();
    else if (!document.querySelector("dialog[open]")) open();
  });
  document.querySelectorAll("[data-palette-key]").forEach((key) => { if (isMac) key.textContent = "⌘ K"; });
  document.querySelectorAll("[data-palette-open]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", open);
  });
})();
