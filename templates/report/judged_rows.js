// The answers with their scores and reasons: unpacked, filtered, sorted, fifty at a time.

const PAGE = 50;
const CHOICES = ["search", "mode", "aspect", "run", "from", "to", "tag", "flag", "sort"];
const SPECIAL = {
  failed: ["only failed", (cell) => Boolean(cell.error)],
  open: ["not ended by itself", (cell) => cell.ended === false],
  na: ["with N/A", (cell, aspect) => Object.entries(cell.scores || {}).some(([a, s]) => (!aspect || a === aspect) && s[0] === "N/A")],
  disagree: ["orders disagree", (cell, aspect) => disagreements(cell).some((a) => !aspect || a === aspect)],
};
const DEFAULTS = { search: "", mode: "", aspect: "", run: "", from: "", to: "", tag: "", flag: "", sort: "worst" };

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return parse(await new Response(stream).text());
}

// Aspects for which a pair's two orders name different winners.
function disagreements(cell) {
  if (!cell.said || cell.said.length < 2) return [];
  return Object.keys(cell.said[0].choices).filter((a) => new Set(cell.said.map((s) => s.choices[a]).filter((w) => w !== null && w !== undefined)).size > 1);
}

// An answer's score on an aspect, as it counts; without one the mean of its scores.
function valueOf(cell, aspect) {
  if (!cell || !cell.scores) return null;
  if (aspect) return cell.scores[aspect] ? cell.scores[aspect][1] : null;
  const counted = Object.values(cell.scores).map((s) => s[1]).filter((v) => v !== null);
  return counted.length ? counted.reduce((a, b) => a + b, 0) / counted.length : null;
}

// What a range of scores is held against: the score as it was given, so that N/A is in no range.
function givenOf(cell, aspect) {
  if (!aspect) return valueOf(cell, "");
  const given = cell.scores && cell.scores[aspect] ? Number(cell.scores[aspect][0]) : NaN;
  return Number.isNaN(given) ? null : given;
}

class Rows {
  constructor(data) {
    this.data = data;
    this.rows = [];
    this.drawn = PAGE;
    this.loaded = new Promise((done) => { this.done = done; });
    for (const id of CHOICES) byId(id).addEventListener(id === "search" ? "input" : "change", () => this.again());
    byId("reset").addEventListener("click", () => this.choose({}));
  }

  async load() {
    if (typeof DecompressionStream === "undefined") {
      byId("rows").replaceChildren(make("p", { class: "card" }, "This browser is too old to unpack the answers (it lacks DecompressionStream)."));
      return;
    }
    const chunks = await Promise.all(range(0, this.data.chunks).map((n) => unpack(byId(`rows-${n}`).textContent)));
    this.rows = chunks.flat();
    this.options();
    this.again();
    this.done();
  }

  options() {
    const cells = this.rows.flatMap((r) => r.cells.filter(Boolean));
    const add = (id, entries) => byId(id).append(...entries.map(([value, text]) => make("option", { value }, text)));
    const modes = [...new Set(this.rows.map((r) => r.mode))];
    add("mode", modes.map((m) => [m, m]));
    byId("mode-label").hidden = modes.length < 2;
    const known = new Set(cells.flatMap((c) => [...Object.keys(c.scores || {}), ...(c.said || []).flatMap((s) => Object.keys(s.choices))]));
    add("aspect", [...known].map((a) => [a, a]));
    add("run", this.data.runs.map((r, i) => [i, r.name]));
    byId("run-label").hidden = this.data.runs.length < 2;
    if (this.data.runs.length > 1) add("sort", [["apart", "runs furthest apart"]]);
    const top = modes.includes("mt-bench") ? 10 : 5;
    for (const id of ["from", "to"]) add(id, [["", "any"], ...range(1, top + 1).map((v) => [v, v])]);
    const tags = new Map();
    for (const r of this.rows) for (const [kind, values] of Object.entries(r.tags)) for (const v of values) {
      if (!tags.has(kind)) tags.set(kind, new Map());
      tags.get(kind).set(v, (tags.get(kind).get(v) || 0) + 1);
    }
    byId("tag").append(...[...tags].map(([kind, counts]) => make("optgroup", { label: kind },
      [...counts].sort((a, b) => b[1] - a[1]).map(([v, n]) => make("option", { value: JSON.stringify([kind, v]) }, `${v} (${thousands(n)})`)))));
    const flags = [...new Set(cells.flatMap((c) => c.flags || []))].sort();
    add("flag", [...Object.entries(SPECIAL).filter(([, [, test]]) => cells.some((c) => test(c, ""))).map(([k, [text]]) => [`:${k}`, text]), ...flags.map((f) => [f, `only ${f}`])]);
  }

  // What the reader has chosen; the rest as at the beginning.
  choose(chosen) {
    for (const id of CHOICES) byId(id).value = String({ ...DEFAULTS, ...chosen }[id]);
    this.again();
  }

  again() { this.drawn = PAGE; this.list(); }

  matching() {
    const chosen = Object.fromEntries(CHOICES.map((id) => [id, byId(id).value]));
    const wanted = chosen.search.trim().toLowerCase(), tag = chosen.tag ? JSON.parse(chosen.tag) : null;
    const low = chosen.from ? Number(chosen.from) : -Infinity, high = chosen.to ? Number(chosen.to) : Infinity;
    const special = chosen.flag.startsWith(":") && Object.hasOwn(SPECIAL, chosen.flag.slice(1)) ? SPECIAL[chosen.flag.slice(1)] : null;
    const cellsOf = (row) => (chosen.run === "" ? row.cells : [row.cells[chosen.run]]).filter(Boolean);
    const fits = (cell) => {
      if (special ? !special[1](cell, chosen.aspect) : chosen.flag && !cell.flags.includes(chosen.flag)) return false;
      if (!chosen.from && !chosen.to) return true;
      const value = givenOf(cell, chosen.aspect);
      return value !== null && value >= low && value <= high;
    };
    const found = this.rows.filter((row) =>
      (!chosen.mode || row.mode === chosen.mode) &&
      (!tag || (row.tags[tag[0]] || []).includes(tag[1])) &&
      (!chosen.aspect || row.mode === "pairwise" || row.cells.some((c) => c && (c.error || (c.scores && chosen.aspect in c.scores)))) &&
      cellsOf(row).some(fits) && (!wanted || row.id.toLowerCase() === wanted || this.text(row).includes(wanted)));
    if (chosen.sort === "number") return found;
    const keyed = found.map((row) => {
      const values = cellsOf(row).map((c) => valueOf(c, chosen.aspect)).filter((v) => v !== null);
      if (!values.length) return [null, row];
      return [chosen.sort === "apart" ? Math.max(...values) - Math.min(...values) : values.reduce((a, b) => a + b, 0) / values.length, row];
    });
    const sign = chosen.sort === "worst" ? 1 : -1; // rows without a score stay last either way
    keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * (a - b)));
    return keyed.map(([, row]) => row);
  }

  text(row) {
    row.text ??= [row.query, ...row.cells.filter(Boolean).flatMap((c) => [c.answer, c.other || "", c.error, ...Object.values(c.scores || {}).map((s) => s[3]), ...(c.said || []).map((s) => s.reason)])].join("\n").toLowerCase();
    return row.text;
  }

  list() {
    const found = this.matching();
    byId("count").textContent = `${thousands(found.length)} of ${thousands(this.rows.length)}`;
    byId("rows").replaceChildren(...(found.length ? found.slice(0, this.drawn).map((row) => this.article(row)) : [make("p", { class: "soft" }, "Nothing matches these filters.")]));
    const rest = found.length - this.drawn;
    byId("more").replaceChildren(rest > 0 ? make("button", { type: "button", onclick: () => { this.drawn += PAGE; this.list(); } }, `Show more (${thousands(rest)} left)`) : "");
  }

  article(row) {
    const where = [foreign(row.id), row.mode, ...(row.turn ? [`turn ${row.turn}`] : []), ...Object.values(row.tags).flat().map(foreign)];
    const cells = row.cells.map((cell, run) => [cell, run]).filter(([cell]) => cell || row.mode !== "pairwise");
    return make("article", { class: "card row" },
      make("p", { class: "small soft meta" }, where.map((w) => make("span", {}, w))),
      make("div", { class: "query", dir: "auto", tabindex: row.query.length > 900 ? 0 : null }, row.query),
      row.mode === "pairwise" ? cells.map(([cell, run]) => this.pair(cell, run)) : make("div", { class: "columns" }, cells.map(([cell, run]) => this.cell(cell, run))));
  }

  heading(run) {
    return this.data.runs.length > 1 ? make("h3", {}, marked(run, this.data.runs[run].name)) : null;
  }

  cell(cell, run) {
    if (!cell) return make("div", {}, this.heading(run), make("p", { class: "soft" }, "No such row."));
    const ended = cell.ended === false ? ", did not end by itself" : "";
    return make("div", {}, make("div", {}, this.heading(run), this.answer(cell.answer),
      make("p", { class: "small soft" }, cell.flags.map((f) => make("span", { class: "flag" }, f)), `${thousands(cell.words)} ${cell.words === 1 ? "word" : "words"}${ended}`),
      cell.error ? make("p", { class: "failed" }, make("b", {}, "Not judged: "), foreign(cell.error)) : null),
      make("dl", { class: "judged" }, Object.entries(cell.scores).map(([aspect, s]) => this.score(aspect, s))));
  }

  score(aspect, [given, counted, expected, reason]) {
    const top = aspect === "rating" ? 10 : 5;
    const badge = make("b", { class: "score" }, given);
    if (given !== "N/A") shade(badge, (Number(given) - 1) / (top - 1));
    const beside = [given === "N/A" && counted !== null ? `counts as ${significant(counted)}` : null, expected !== null && expected !== undefined ? `expected ${fixed(expected)}` : null].filter(Boolean);
    return [make("dt", {}, badge, make("span", {}, aspect), beside.length ? make("span", { class: "soft small" }, beside.join(", ")) : null),
      make("dd", { dir: "auto", ...(reason.length > 900 ? { class: "long", tabindex: 0 } : {}) }, reason || make("span", { class: "soft" }, "No reason was given."))];
  }

  answer(text) {
    if (!text.trim()) return make("p", { class: "soft" }, "(empty answer)");
    return make("div", { class: "answer", dir: "auto", tabindex: text.length > 700 ? 0 : null }, text);
  }

  pair(cell, run) {
    const apart = disagreements(cell);
    const aspects = [...new Set(cell.said.flatMap((s) => Object.keys(s.choices)))];
    const who = (w) => (w === "tie" ? "tie" : w === null || w === undefined ? "–" : marked(w, cell.names[w]));
    return make("div", {}, this.heading(run),
      make("div", { class: "columns" }, [cell.answer, cell.other].map((text, i) => make("div", {}, make("h3", {}, marked(i, cell.names[i])), this.answer(text)))),
      cell.error ? make("p", { class: "failed" }, make("b", {}, "Not judged in both orders: "), foreign(cell.error)) : null,
      cell.said.length ? table(["preferred", ...cell.said.map((s) => (s.order === "BA" ? "second answer shown first" : "first answer shown first")), ""],
        aspects.map((a) => [a, ...cell.said.map((s) => who(s.choices[a])), apart.includes(a) ? "the orders disagree: a tie" : ""]), () => false) : null,
      cell.said.filter((s) => s.reason).map((s) => make("p", { class: "reason", dir: "auto" }, cell.said.length > 1 ? make("span", { class: "soft small" }, `${s.order}  `) : null, s.reason)));
  }
}
