/* Keyboard shortcuts, and the sheet that lists them ("?"). Nothing acts while one types, and all of it can be switched
   off on this device. A key presses a button or follows a link that the page has; it can do nothing that these cannot. */
"use strict";
(() => {
  const OFF = "tocsin-shortcuts-off";
  const SEQUENCE_MS = 1500; // from "g" to the second key
  const sheet = document.getElementById("shortcuts");
  const isOff = () => { try { return localStorage.getItem(OFF) === "yes"; } catch { return false; } };

  function setOff(off) {
    // Without storage the choice holds for no longer than the page.
    try { if (off) localStorage.setItem(OFF, "yes"); else localStorage.removeItem(OFF); } catch { /* as said */ }
    render();
  }

  function render() {
    const off = isOff();
    document.documentElement.toggleAttribute("data-shortcuts-off", off);
    const box = sheet?.querySelector("[data-shortcuts-switch]");
    if (box) box.checked = !off;
  }

  function open() {
    if (sheet && !sheet.open) sheet.showModal();
  }

  document.querySelectorAll("[data-shortcuts-open]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => { button.closest("details.menu")?.removeAttribute("open"); open(); });
  });
  sheet?.querySelector("[data-shortcuts-switch]").addEventListener("change", (event) => setOff(!event.target.checked));
  sheet?.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });

  /* ---- lists: j and k move the focus from row to row, x chooses ---- */
  const isShown = (element) => element.getClientRects().length > 0;
  const rows = () => [...document.querySelectorAll(".link-rows a.subject")].filter(isShown);

  function move(step) {
    const links = rows();
    if (!links.length) return false;
    const row = document.activeElement.closest(".link-rows tr, .link-rows > li");
    const at = links.findIndex((link) => link === document.activeElement || (row && row.contains(link)));
    const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
    return true;
  }

  function choose() {
    const box = document.activeElement.closest(".link-rows tbody tr")?.querySelector("input[type=checkbox]");
    if (box) box.click();
    return Boolean(box);
  }

  // In a list a key acts on what is chosen, or else on the row that has the focus.
  const press = (key) => {
    const form = document.activeElement.closest("[data-bulk-form]");
    if (form?.querySelector(`[data-press="${key}"]`) && !form.querySelector("input[name=alert]:checked")) choose();
    // One that the menu has is pressed there, too.
    const buttons = [...document.querySelectorAll(`[data-press="${key}"]`)];
    const button = buttons.find(isShown) ?? buttons.find((one) => one.matches(".menu-item"));
    button?.click();
    return Boolean(button);
  };

  let goPressedAt = 0;
  function act(key) {
    const isGo = Date.now() - goPressedAt < SEQUENCE_MS;
    goPressedAt = 0;
    if (isGo) {
      const link = document.querySelector(`[data-go="${CSS.escape(key)}"]`);
      if (link) window.location.href = link.href;
      return Boolean(link);
    }
    switch (key) {
      case "?": open(); return true;
      case "g": goPressedAt = Date.now(); return true;
      case "j": return move(1);
      case "k": return move(-1);
      case "x": return choose();
      case "/": {
        const search = [...document.querySelectorAll("main input[type=search], .side input[type=search]")].find(isShown);
        search?.focus();
        search?.select();
        // A side bar of icons has no field: the palette searches too.
        if (!search) document.querySelector("[data-palette-open]")?.click();
        return true;
      }
      default: return press(CSS.escape(key));
    }
  }

  document.addEventListener("keydown", (event) => {
    if (isOff() || event.defaultPrevented || event.repeat && !"jk".includes(event.key)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.key.length !== 1) return;
    if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) return;
    // A dialog that was just closed may have the focus still: what counts is whether one is open.
    if (document.querySelector("dialog[open]")) return;
    if (act(event.key)) event.preventDefault();
  });

  render();
})();
