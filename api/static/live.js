// The live part: what an event says has moved is fetched again, and put in its place where it differs. Without this, all works but that.
"use strict";

const EACH_MS = 1000;
const pulse = document.getElementById("pulse");
const hold = document.getElementById("hold");
let source = null, waiting = null, last = 0, held = false, away = false;

// What a form was answered with, or an error, is not at this page's address, so it is not fetched again.
const still = "still" in document.body.dataset;
const parts = () => still ? [] : [...document.querySelectorAll("[data-live]")];
const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")
  || part.querySelector("button:active") || part.querySelector("input:checked[name=name], input:checked[name=id]")
  || (String(getSelection()) && part.contains(getSelection().anchorNode));

function said(text) { if (pulse) pulse.textContent = text; }

async function refresh() {
  waiting = null;
  last = Date.now();
  try {
    const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
    if (answer.redirected || !answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      const now = fresh.getElementById(part.id);
      if (!now || now.innerHTML === part.dataset.shown || busy(part)) continue;
      const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
      const focused = part.contains(document.activeElement) && document.activeElement.getAttribute("data-key");
      part.dataset.shown = now.innerHTML;
      if (part.innerHTML !== now.innerHTML) part.replaceChildren(...document.importNode(now, true).childNodes);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) part.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    }
    const icon = document.querySelector("link[rel=icon]"), was = fresh.querySelector("link[rel=icon]");
    if (icon && was && icon.getAttribute("href") !== was.getAttribute("href")) icon.setAttribute("href", was.getAttribute("href"));
    if (fresh.title) document.title = fresh.title;
    away = false;
    said("live");
  } catch {
    if (!away) said(`no answer since ${new Date().toLocaleTimeString()}`);
    away = true;
    soon(3 * EACH_MS);
  }
}

function soon(after = 0) {
  if (waiting || held || document.hidden) return;
  waiting = setTimeout(refresh, Math.max(after, EACH_MS - (Date.now() - last)));
}

function listen() {
  if (source || held || document.hidden || !parts().length) return;
  source = new EventSource("/api/events?kind=pulse,process,service,run,alarm");
  for (const kind of ["pulse", "process", "service", "run", "alarm", "resync"]) source.addEventListener(kind, () => soon());
  source.onopen = () => { said("live"); soon(); };
  source.onerror = () => { said("reconnecting"); soon(3 * EACH_MS); };
}

function silence() {
  source?.close();
  source = null;
  clearTimeout(waiting);
  waiting = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? silence() : (listen(), soon())));
addEventListener("pagehide", silence);
hold?.addEventListener("click", () => {
  held = !held;
  hold.setAttribute("aria-pressed", String(held));
  hold.textContent = held ? "Go on" : "Hold";
  if (held) { silence(); said("held"); } else { listen(); soon(); }
});
if (hold && parts().length) { hold.hidden = false; listen(); setInterval(() => soon(), 15 * EACH_MS); }

// Ticks all rows of a list.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-ticks]"))
    for (const box of document.querySelectorAll(`input[name="${event.target.dataset.ticks}"]`)) box.checked = event.target.checked;
});

// Buttons that cannot be taken back ask first.
document.addEventListener("submit", (event) => {
  const said = event.submitter?.dataset.confirm;
  if (said && !confirm(said)) event.preventDefault();
  else if (event.submitter?.dataset.busy) event.submitter.textContent = event.submitter.dataset.busy;
});

// j and k go through a list, o opens, m marks as read.
const rows = () => [...document.querySelectorAll("[data-row]")];
let at = -1;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") { const q = document.querySelector("input[type=search]"); if (q) { event.preventDefault(); q.focus(); } }
  const move = { j: 1, k: -1 }[event.key], all = rows();
  if (move && all.length) {
    all[at]?.classList.remove("cursor");
    at = Math.min(all.length - 1, Math.max(0, at + move));
    all[at].classList.add("cursor");
    all[at].scrollIntoView({ block: "nearest" });
  } else if (event.key === "o" && all[at]) all[at].querySelector("a.what")?.click();
  else if (event.key === "m" && all[at]) all[at].querySelector("button[data-read]")?.click();
});

// A text of the page becomes the place of a field; a field more.
document.addEventListener("click", (event) => {
  const pick = event.target.closest("[data-css]"), more = event.target.closest("[data-more]");
  if (more) addField();
  if (!pick) return;
  if (pick.dataset.into) { const box = document.querySelector(`[name="${pick.dataset.into}"]`); box.value = (box.value ? box.value + "\n" : "") + pick.dataset.css; box.focus(); return; }
  const places = [...document.querySelectorAll("input[name=field_place]")];
  const place = places.find((one) => !one.value) || addField();
  place.value = pick.dataset.css;
  place.closest("tr").querySelector("input[name=field_name]").focus();
});
function addField() {
  const table = document.querySelector("#fields tbody"), row = table.lastElementChild.cloneNode(true);
  for (const box of row.querySelectorAll("input")) box.value = "";
  table.append(row);
  return row.querySelector("input[name=field_place]");
}
const seen = document.querySelector("form[data-seen]");
if (seen && !document.hidden) setTimeout(() => fetch(seen.action, { method: "POST", body: new URLSearchParams(new FormData(seen)) }), 1500);
