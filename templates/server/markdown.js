// Markdown to elements: paragraphs, headings, lists, quotes, fences, inline code, emphasis, links to
// http(s). No HTML is read or made, no image is loaded; what is not understood stays as it is written.
// The time is linear in the text: each character is looked at a bounded number of times.

const DEEPEST = 6; // lists and quotes in each other
const EMPHASES = 12; // open at a time
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const MARKER = /^( *)([-*+]|\d{1,9}[.)])(?: +(?=\S)|[ \t]*$)/;

function markdown(text) {
  const holder = make("div", { class: "markdown" });
  blocks(holder, text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), 0);
  return holder;
}

const blank = (line) => line.trim() === "";
const isRule = (line) => {
  const marks = line.replaceAll(" ", "");
  return marks.length > 2 && "-*_".includes(marks[0]) && !indented(line) && marks === marks[0].repeat(marks.length);
};
const indented = (line) => line.startsWith("    ");
const isQuote = (line) => /^ {0,3}>/.test(line);
const beginsBlock = (line, deep) => FENCE.test(line) || HEADING.test(line) || isRule(line) || (deep < DEEPEST && (isQuote(line) || MARKER.test(line)));

function blocks(holder, lines, deep) {
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    if (blank(line)) i++;
    else if (FENCE.test(line) && !badFence(line)) i = fence(holder, lines, i);
    else if (HEADING.test(line)) i = heading(holder, line, i);
    else if (isRule(line)) { holder.append(make("hr")); i++; }
    else if (deep < DEEPEST && isQuote(line)) i = quote(holder, lines, i, deep);
    else if (deep < DEEPEST && MARKER.test(line)) i = list(holder, lines, i, deep);
    else i = paragraph(holder, lines, i, deep);
  }
}

// What stands behind three backticks on one line with more of them is inline code.
const badFence = (line) => { const [, marks, info] = FENCE.exec(line); return marks[0] === "`" && info.includes("`"); };

function fence(holder, lines, i) {
  const [, marks, info] = FENCE.exec(lines[i]);
  const inner = [];
  for (i++; i < lines.length; i++) {
    const found = FENCE.exec(lines[i]);
    if (found && found[1][0] === marks[0] && found[1].length >= marks.length && blank(found[2])) { i++; break; }
    inner.push(lines[i]);
  }
  const text = inner.join("\n");
  holder.append(make("div", { class: "code" },
    make("div", { class: "code-head" }, make("span", {}, info.trim()), button("Copy", () => copyText(text), { class: "plain" })),
    make("pre", { tabindex: "0" }, make("code", {}, text))));
  return i;
}

function heading(holder, line, i) {
  const [, marks, words] = HEADING.exec(line);
  let text = (words || "").trimEnd(), end = text.length;
  while (end && text[end - 1] === "#") end--;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trimEnd();
  holder.append(make(`h${Math.min(6, marks.length + 2)}`, {}, inline(text)));
  return i + 1;
}

function quote(holder, lines, i, deep) {
  const inner = [];
  while (i < lines.length && isQuote(lines[i])) inner.push(lines[i++].replace(/^ {0,3}> ?/, ""));
  const element = make("blockquote");
  blocks(element, inner, deep + 1);
  holder.append(element);
  return i;
}

function paragraph(holder, lines, i, deep) {
  const inner = [lines[i++].trim()];
  while (i < lines.length && !blank(lines[i]) && !beginsBlock(lines[i], deep)) inner.push(lines[i++].trim());
  holder.append(make("p", {}, inline(inner.join("\n"))));
  return i;
}

const kindOf = (mark) => (/\d/.test(mark) ? mark.at(-1) : mark);

function list(holder, lines, i, deep) {
  const [, lead, mark] = MARKER.exec(lines[i]);
  const kind = kindOf(mark), ordered = /\d/.test(mark);
  const element = make(ordered ? "ol" : "ul", ordered && parseInt(mark, 10) !== 1 ? { start: String(parseInt(mark, 10)) } : {});
  while (i < lines.length) {
    const found = MARKER.exec(lines[i]);
    if (!found || kindOf(found[2]) !== kind || found[1].length > lead.length + 1 || isRule(lines[i])) break;
    const room = Math.min(found[0].length, found[1].length + found[2].length + 4), inner = [lines[i].slice(room)];
    const into = Math.max(found[1].length + 2, Math.min(room, found[1].length + 4));
    let gap = false;
    for (i++; i < lines.length; i++) {
      const line = lines[i];
      if (blank(line)) { gap = true; inner.push(""); continue; }
      const depth = line.length - line.trimStart().length;
      if (depth >= into || (depth > found[1].length && MARKER.test(line))) inner.push(line.slice(Math.min(depth, room)));
      else if (gap || beginsBlock(line, deep)) break;
      else inner.push(line);
      gap = false;
    }
    const item = make("li");
    blocks(item, inner, deep + 1);
    // An item of one paragraph needs no paragraph.
    if (item.firstChild && item.firstChild.nodeName === "P") item.firstChild.replaceWith(...item.firstChild.childNodes);
    element.append(item);
  }
  holder.append(element);
  return i;
}

// --- within a line ------------------------------------------------------------------------------

const NAMES = { "*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "del" };
const ESCAPED = new Set("\\`*_{}[]()<>#+-.!~|\"'");
const isWord = (c) => c !== undefined && /[\p{L}\p{N}]/u.test(c);
const isSpace = (c) => c === undefined || /\s/.test(c);

// Pieces in order: texts, elements that are whole, and marks that may open or close an emphasis.
function inline(text, links = true) {
  const pieces = [];
  const open = []; // of pieces, marks that wait for their closing
  const waits = { "*": 0, "_": 0, "**": 0, "__": 0, "~~": 0 };
  const next = finder(text);
  const ticks = backticks(text);
  let from = 0, i = 0;
  const flush = () => { if (i > from) pieces.push(text.slice(from, i)); };
  const put = (piece, end) => { flush(); pieces.push(piece); from = i = end; };
  while (i < text.length) {
    const c = text[i];
    if (c === "\\" && ESCAPED.has(text[i + 1])) put(text[i + 1], i + 2);
    else if (c === "\n") put(make("br"), i + 1);
    else if (c === "`") {
      const [size, end] = ticks(i);
      if (end < 0) i += size; // no closing: as it is
      else put(make("code", {}, codeText(text.slice(i + size, end))), end + size);
    } else if (c === "*" || c === "_" || c === "~") {
      let end = i;
      while (text[end] === c) end++;
      const size = end - i;
      if (size > 3 || (c === "~" && size !== 2)) { i = end; continue; }
      const before = text[i - 1], after = text[end];
      const opens = !isSpace(after) && (c === "*" || !isWord(before));
      const closes = !isSpace(before) && (c === "*" || !isWord(after));
      put(null, end);
      pieces.pop();
      marks(c, size, opens, closes, pieces, open, waits);
    } else if (links && c === "[") {
      const found = linkAt(text, i, next);
      if (found) put(link(found.url, inline(found.label, false)), found.end);
      else i++;
    } else if (links && c === "h" && text.startsWith("http", i) && !isWord(text[i - 1])) {
      const end = urlEnd(text, i);
      const url = text.slice(i, end);
      if (safe(url)) put(link(url, [url]), end);
      else i++;
    } else i++;
  }
  flush();
  return nested(pieces);
}

function codeText(inner) {
  const text = inner.replaceAll("\n", " ");
  return text.length > 2 && text.startsWith(" ") && text.endsWith(" ") && !blank(text) ? text.slice(1, -1) : text;
}

// Close what is open, or open; "***" is both kinds. Each mark enters and leaves the stack once.
function marks(c, size, opens, closes, pieces, open, waits) {
  const kinds = size === 3 ? [c + c, c] : [c.repeat(size)];
  if (closes && size === 3 && open.length && pieces[open.at(-1)].kind === c) kinds.reverse();
  const left = [];
  for (const kind of kinds) {
    if (!closes || !waits[kind]) { left.push(kind); continue; }
    let at = open.pop();
    for (waits[pieces[at].kind]--; pieces[at].kind !== kind; waits[pieces[at].kind]--) at = open.pop();
    pieces[at].pair = true;
    pieces.push({ kind, close: true, pair: true });
  }
  for (const kind of left) {
    if (opens && open.length < EMPHASES) { open.push(pieces.length); waits[kind]++; pieces.push({ kind, close: false, pair: false }); }
    else pieces.push(kind);
  }
}

// The pieces as elements in each other; marks without a partner are text again.
function nested(pieces) {
  const top = document.createDocumentFragment();
  const stack = [top];
  for (const piece of pieces) {
    if (typeof piece === "string" || piece instanceof Node) stack.at(-1).append(piece);
    else if (!piece.pair) stack.at(-1).append(piece.kind);
    else if (piece.close) stack.pop();
    else { const element = make(NAMES[piece.kind]); stack.at(-1).append(element); stack.push(element); }
  }
  return top;
}

// For the run of backticks at a place: its length, and where the next run of that length begins.
function backticks(text) {
  const runs = new Map(), sizes = new Map(), pointers = new Map();
  for (let i = text.indexOf("`"); i >= 0;) {
    let end = i;
    while (text[end] === "`") end++;
    if (!runs.has(end - i)) runs.set(end - i, []);
    runs.get(end - i).push(i);
    sizes.set(i, end - i);
    i = text.indexOf("`", end);
  }
  return (i) => {
    const size = sizes.get(i);
    if (size === undefined) return [1, -1]; // in the middle of a run, behind a backslash
    const places = runs.get(size);
    let p = pointers.get(size) || 0;
    while (p < places.length && places[p] <= i) p++;
    pointers.set(size, p);
    return [size, p < places.length ? places[p] : -1];
  };
}

// The next place of a character; asked with places that only grow.
function finder(text) {
  const known = new Map();
  return (c, from) => {
    let at = known.has(c) ? known.get(c) : -2;
    if (at !== -1 && at < from) known.set(c, at = text.indexOf(c, from));
    return at;
  };
}

// [label](url) at a place, or null.
function linkAt(text, i, next) {
  const close = next("]", i + 1);
  if (close < 0 || text[close + 1] !== "(") return null;
  const end = next(")", close + 2);
  if (end < 0 || end - close > 2048) return null;
  const url = text.slice(close + 2, end).trim();
  return close > i + 1 && safe(url) ? { label: text.slice(i + 1, close), url, end: end + 1 } : null;
}

function safe(url) {
  if (url.length > 2048 || !/^https?:\/\/[^\s<>"'`\\]+$/i.test(url)) return false;
  try { return ["http:", "https:"].includes(new URL(url).protocol); } catch { return false; }
}

function urlEnd(text, i) {
  let end = i;
  while (end < text.length && end - i < 2049 && !/[\s<>"'`\\*|]/.test(text[end])) end++;
  while (end > i && ".,;:!?)]}_~".includes(text[end - 1])) end--;
  return end;
}

const link = (url, children) => make("a", { href: url, rel: "noopener noreferrer nofollow", target: "_blank", title: url }, children);
