// Asks for the page again every ten seconds and shows what is new. It keeps the scroll position,
// the focus, open details and what is typed. Without this script the page is whole as well.
"use strict";
(() => {
  const SECONDS = 10;
  const PARTS = ["summary", "content"];
  let etag = "", paused = false, busy = false;

  const button = document.createElement("button");
  button.type = "button";
  button.id = "pause";
  const note = document.createElement("span");
  note.setAttribute("role", "status");
  const show = (text) => { note.textContent = text; };
  const label = () => { button.textContent = paused ? "Resume updates" : "Pause updates"; };
  button.addEventListener("click", () => { paused = !paused; label(); if (!paused) look(); });
  label();
  document.getElementById("updates").append(button, " ", note);

  const isInUse = () => {
    const selection = document.getSelection();
    const fields = [...document.querySelectorAll("#content input")];
    return document.hidden || (selection !== null && !selection.isCollapsed)
      || fields.some((one) => one === document.activeElement || one.value !== one.defaultValue);
  };

  const replaced = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    if (!PARTS.every((id) => next.getElementById(id))) return location.reload();
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
    const focus = document.activeElement;
    const link = focus && focus.closest("#content") ? focus.getAttribute("href") : null;
    const inside = focus && focus.closest("#content") ? focus.id : "";
    document.title = next.title;
    for (const id of PARTS) document.getElementById(id).replaceWith(next.getElementById(id));
    for (const id of open) { const one = id && document.getElementById(id); if (one) one.open = true; }
    const again = inside ? document.getElementById(inside)
      : link ? [...document.querySelectorAll("#content a")].find((one) => one.getAttribute("href") === link) : null;
    if (again) again.focus({ preventScroll: true });
  };

  async function look() {
    if (paused || busy || isInUse()) return;
    busy = true;
    try {
      const headers = etag ? { "If-None-Match": etag, Accept: "text/html" } : { Accept: "text/html" };
      const answer = await fetch(location.href, { headers, cache: "no-store" });
      if (answer.status === 401) location.reload();
      if (answer.status === 200) { etag = answer.headers.get("ETag") || ""; replaced(await answer.text()); }
      show(answer.ok || answer.status === 304 ? "" : `not up to date: the answer was ${answer.status}`);
    } catch {
      show("not up to date: syncd does not answer");
    } finally {
      busy = false;
    }
  }

  setInterval(look, SECONDS * 1000);
  document.addEventListener("visibilitychange", look);
})();
