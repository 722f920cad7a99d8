// Fetches the live part each second while the page is looked at. Without it the page reloads itself.
"use strict";
const live = document.getElementById("live");
const pulse = document.getElementById("pulse");
let shown = "";
let heard = new Date();

async function refresh() {
  if (document.hidden || live.querySelector("button:active") || String(window.getSelection())) return;
  try {
    const answer = await fetch("/live", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const text = await answer.text();
    heard = new Date();
    pulse.hidden = true;
    if (text === shown) return;
    const focused = document.activeElement?.getAttribute("formaction");
    const opened = [...live.querySelectorAll("details[open]")].map((part) => part.id);
    live.innerHTML = text;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    shown = text;
    if (focused) live.querySelector(`[formaction="${focused}"]`)?.focus();
  } catch {
    pulse.hidden = false;
    pulse.querySelector("time").textContent = heard.toLocaleTimeString();
  }
}

async function forever() {
  await refresh();
  setTimeout(forever, 1000);
}
setTimeout(forever, 1000);
