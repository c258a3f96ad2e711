"use strict";
// Elements made from text only, and words for numbers.

// make("p", {class: "soft"}, "text", child, …): texts are never parsed as markup.
function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

const byId = (id) => document.getElementById(id);
const button = (label, act, more) => make("button", { type: "button", onclick: act, ...more }, label);
const thousands = (n) => n.toLocaleString("en");
const plural = (n, one, many) => `${thousands(n)} ${n === 1 ? one : many || one + "s"}`;
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

// A probability from its logarithm, in words that fit its size.
function share(logprob) {
  if (logprob === null || logprob === undefined) return "–";
  const percent = 100 * Math.exp(logprob);
  if (percent >= 99.95) return "100 %";
  if (percent >= 1) return percent.toFixed(1) + " %";
  if (percent >= 0.01) return percent.toFixed(2) + " %";
  return "< 0.01 %";
}

// A token on one line: control characters escaped, blank ones made visible.
const visible = (text) => {
  const escaped = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
  return /^\s*$/.test(text) ? escaped.replaceAll(" ", "␣") || "(nothing)" : escaped.replace(/^ /, "␣");
};

// Texts of tokens together: a character may be spread over several of them. One that is not whole
// at the end is left out.
function textOfBytes(pieces) {
  const decoder = new TextDecoder("utf-8");
  return pieces.map((bytes) => decoder.decode(Uint8Array.from(bytes), { stream: true })).join("");
}

// What a browser refuses to keep is not kept.
function remembered(storage, key) {
  try { return window[storage].getItem(key); } catch { return null; }
}
function remember(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
    return true;
  } catch { return false; }
}

const parsed = (text) => { try { return JSON.parse(text); } catch { return null; } };

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    notice("The browser did not let the page copy; select the text and copy it yourself.");
  }
}

// Told to who cannot see what changed.
const say = (text) => { byId("said").textContent = text; };

// A sentence above the place to write, with something to do about it.
function notice(text, ...acts) {
  const close = button("✕", () => notice(""), { class: "plain", "aria-label": "Close this message" });
  byId("notice").replaceChildren(...(text ? [make("p", {}, text), ...acts, close] : []));
  byId("notice").hidden = !text;
}

// A menu closes when something in it is chosen, at Escape, and when something else is clicked.
function menu(label, entries, more) {
  const list = make("div", { class: "entries" }, entries.map((entry) =>
    Array.isArray(entry) ? button(entry[0], () => { holder.open = false; entry[1](); }, entry[2]) : make("p", { class: "soft small" }, entry)));
  const holder = make("details", { class: "menu", ...more }, make("summary", { "aria-haspopup": "true" }, label), list);
  holder.addEventListener("toggle", () => {
    const room = holder.getBoundingClientRect().top - (holder.closest("#scroll")?.getBoundingClientRect().top || 0);
    if (holder.open) holder.classList.toggle("down", room < list.offsetHeight + 8);
  });
  return holder;
}

function closeMenus(except) {
  let closed = false;
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (open === except || (except && open.contains(except))) continue;
    open.open = false;
    closed = true;
    if (!except) open.querySelector("summary").focus();
  }
  return closed;
}

// A dialog over the page: its title, what it holds, and how it is closed.
function openDialog(id, title, ...children) {
  const dialog = make("dialog", { id, "aria-labelledby": `${id}-title` },
    make("header", {}, make("h2", { id: `${id}-title` }, title), button("✕", () => dialog.close(), { class: "plain", "aria-label": "Close" })),
    make("div", { class: "body" }, children));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
