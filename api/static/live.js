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
  || (String(getSelection()) && getSelection().containsNode(part, true));

// What a person is at, so that it can be found again in what takes its place.
const keyed = (one) => `${one.tagName} ${one.dataset.key ?? one.getAttribute("href") ?? one.getAttribute("name") ?? one.textContent.trim()}`;
const alike = (part, one) => [...part.querySelectorAll(one.tagName)].filter((other) => keyed(other) === keyed(one));
function place(part, one) {
  if (!one || one === part || !part.contains(one)) return () => null;
  const key = keyed(one), number = alike(part, one).indexOf(one);
  return () => { const found = [...part.querySelectorAll(one.tagName)].filter((other) => keyed(other) === key); return found[number] ?? found[0]; };
}
function renew(part, now) {
  const focused = place(part, document.activeElement), marked = all()[at], named = marked && part.contains(marked) && (marked.id ? `#${CSS.escape(marked.id)}` : null);
  const what = marked && !named ? place(part, marked.querySelector("a.what")) : () => null;
  const scrolled = [...part.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  part.replaceChildren(...document.importNode(now, true).childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  part.querySelectorAll(".scroll").forEach((one, number) => { [one.scrollLeft, one.scrollTop] = scrolled[number] ?? [0, 0]; });
  focused()?.focus({ preventScroll: true });
  const row = named ? part.querySelector(named) : what()?.closest("[data-row]");
  if (row) point(all().indexOf(row));
}

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
      part.dataset.shown = now.innerHTML;
      if (part.innerHTML !== now.innerHTML) renew(part, now);
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
const all = () => [...document.querySelectorAll("[data-row]")];
let at = -1;
function point(to) {
  document.querySelector("[data-row].cursor")?.classList.remove("cursor");
  at = to;
  all()[at]?.classList.add("cursor");
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") { const q = document.querySelector("input[type=search]"); if (q) { event.preventDefault(); q.focus(); } }
  const move = { j: 1, k: -1 }[event.key], rows = all();
  if (move && rows.length) {
    point(Math.min(rows.length - 1, Math.max(0, at + move)));
    rows[at].scrollIntoView({ block: "nearest" });
  } else if (event.key === "o" && rows[at]) rows[at].querySelector("a.what")?.click();
  else if (event.key === "m" && rows[at]) rows[at].querySelector("button[data-read]")?.click();
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
let told = false;
function tellSeen() {
  if (!seen || told || document.hidden) return;
  setTimeout(() => {
    if (told || document.hidden) return;
    told = true;
    fetch(seen.action, { method: "POST", body: new URLSearchParams(new FormData(seen)) });
  }, 1500);
}
document.addEventListener("visibilitychange", tellSeen);
tellSeen();
