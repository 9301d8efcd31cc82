/* The editor of schedules: people in an order are moved up and down, and there is always one empty place more. Without
   this script the selects do the same. */
"use strict";
(() => {
  function fireChange(element) { element.dispatchEvent(new Event("change", { bubbles: true })); }

  function addMoveButtons(list) {
    [...list.children].forEach((item) => {
      if (item.querySelector(".moves")) return;
      const moves = document.createElement("span");
      moves.className = "moves";
      for (const [sign, direction, label] of [["↑", -1, list.dataset.up], ["↓", 1, list.dataset.down]]) {
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
    if (list.lastElementChild.querySelector("select").value) addEmptyRow(list);
    addMoveButtons(list);
  }

  function addEmptyRow(list) {
    const next = list.lastElementChild.cloneNode(true);
    const select = next.querySelector("select");
    next.querySelector(".moves")?.remove();
    select.value = "";
    select.id = "";
    select.setAttribute("aria-label", `${list.children.length + 1}.`);
    list.append(next);
  }

  // Another group brings its members: they replace those of the group before; whoever else was picked stays.
  const group = document.querySelector("select[name=group]");
  const membersOf = (name) => JSON.parse([...group.options].find((option) => option.value === name)?.dataset.members ?? "[]");
  const valuesOf = (list) => [...list.querySelectorAll("select")].map((select) => select.value).filter(Boolean);
  let shownGroup = group.value;

  function setPeople(list, people) {
    while (list.children.length <= people.length) addEmptyRow(list);
    [...list.children].forEach((item, index) => {
      if (index > people.length) item.remove(); else item.querySelector("select").value = people[index] ?? "";
    });
    addMoveButtons(list);
  }

  function replaceMembers(list, before, after) {
    const chosen = valuesOf(list);
    const others = chosen.filter((user) => !before.includes(user) && !after.includes(user));
    const people = [...after, ...others];
    if (String(people) === String(chosen)) return;
    setPeople(list, people);
    list.parentElement.querySelector(".people-note")?.remove();
    const note = document.createElement("p");
    note.className = "people-note";
    note.setAttribute("role", "status");
    note.append(list.dataset.replaced.replace("{group}", group.selectedOptions[0].text), " ");
    const undo = document.createElement("button");
    undo.type = "button";
    undo.className = "link-button";
    undo.textContent = list.dataset.undo;
    undo.addEventListener("click", () => { note.remove(); setPeople(list, chosen); fireChange(list.querySelector("select")); });
    note.append(undo);
    list.after(note);
  }

  group.addEventListener("change", () => {
    const [before, after] = [membersOf(shownGroup), membersOf(group.value)];
    shownGroup = group.value;
    document.querySelectorAll("[data-ordered]").forEach((list) => {
      if (list.querySelector("select[name$='-users']")) replaceMembers(list, before, after);
    });
  });

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
