/* The editor of schedules: people in an order are moved up and down, and there is always one empty place more. Without
   this script the selects do the same. */
"use strict";
(() => {
  const isGerman = document.documentElement.lang.startsWith("de");
  const words = isGerman ? { up: "Nach oben", down: "Nach unten" } : { up: "Move up", down: "Move down" };

  function fireChange(element) { element.dispatchEvent(new Event("change", { bubbles: true })); }

  function addMoveButtons(list) {
    [...list.children].forEach((item) => {
      if (item.querySelector(".moves")) return;
      const moves = document.createElement("span");
      moves.className = "moves";
      for (const [sign, direction, label] of [["↑", -1, words.up], ["↓", 1, words.down]]) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = sign;
        button.setAttribute("aria-label", label);
        button.addEventListener("click", () => {
          const other = direction < 0 ? item.previousElementSibling : item.nextElementSibling;
          if (!other || !item.querySelector("select").value || !other.querySelector("select").value) return;
          if (direction < 0) other.before(item); else other.after(item);
          button.focus();
          fireChange(item.querySelector("select"));
        });
        moves.append(button);
      }
      item.append(moves);
    });
  }

  // One empty place at the end, and no more.
  function normalizeRows(list) {
    const empty = [...list.children].filter((item) => !item.querySelector("select").value);
    empty.slice(0, -1).forEach((item) => { if (item !== list.lastElementChild && !item.contains(document.activeElement)) item.remove(); });
    const last = list.lastElementChild;
    if (last.querySelector("select").value) {
      const next = last.cloneNode(true);
      const select = next.querySelector("select");
      next.querySelector(".moves")?.remove();
      select.value = "";
      select.id = "";
      select.setAttribute("aria-label", `${list.children.length + 1}.`);
      list.append(next);
    }
    addMoveButtons(list);
  }

  function addEmptyWindow(windows) {
    const rows = [...windows.children];
    const last = rows[rows.length - 1];
    if (![...last.querySelectorAll("input")].some((input) => (input.type === "checkbox" ? input.checked : input.value))) return;
    const next = last.cloneNode(true);
    next.querySelectorAll("input, select").forEach((input) => {
      input.name = input.name.replace(/-\d+-(days|begins|until|ends)$/, `-${rows.length}-$1`);
      if (input.type === "checkbox") input.checked = false; else input.value = "";
    });
    const legend = next.querySelector("legend");
    legend.textContent = legend.textContent.replace(/\d+/, rows.length + 1);
    windows.append(next);
  }

  document.addEventListener("change", (event) => {
    const list = event.target.closest?.("[data-ordered]");
    if (list) normalizeRows(list);
    const windows = event.target.closest?.("[data-windows]");
    if (windows) addEmptyWindow(windows);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-formset-add]")) setTimeout(() => { start(); fireChange(document.getElementById("schedule-form")); }, 0);
  });
  function start() { document.querySelectorAll("[data-ordered]").forEach(normalizeRows); }
  start();
})();
