// Answers to the same probe side by side: which are shown, and what each is.

const PAGE = 30;
const FEW = 4; // cells that are shown until the reader chooses

class Answers {
  constructor(data, cellName) {
    this.data = data;
    this.cellName = cellName;
    this.drawn = PAGE;
    this.shown = new Set(this.usual());
    const options = (id, found) => byId(id).append(...found.map(([value, text]) => make("option", { value }, text)));
    const cells = data.cells.map((cell, i) => [i, this.cellName(cell)]);
    options("right-in", cells);
    options("wrong-in", cells);
    options("kind", data.kinds.map((kind) => [kind, kind]));
    const flags = new Set(data.rows.flatMap((row) => row.answers.flatMap((a) => (a ? a.flags : []))));
    options("flag", [[":wrong", "wrong in all shown"], [":differ", "where cells differ"], [":failed", "failed"], ...[...flags].sort().map((f) => [`=${f}`, `only ${f}`])]);
    for (const id of ["right-in", "wrong-in", "kind", "flag"]) byId(id).addEventListener("change", () => this.changed(id));
    byId("search").addEventListener("input", () => this.again());
    byId("reset").addEventListener("click", () => this.reset());
    this.draw();
  }

  // The best, zero-shot and the aligned model; of a small benchmark, all.
  usual() {
    const { cells, best, zero } = this.data, all = range(0, cells.length);
    if (cells.length <= FEW) return all;
    const model = cells[0].model;
    return all.filter((i) => cells[i].name === best[model] || cells[i].name === zero[model] || cells[i].aligned);
  }

  changed(id) {
    if (id.endsWith("-in") && byId(id).value !== "") this.shown.add(Number(byId(id).value));
    const [a, b] = [byId("right-in").value, byId("wrong-in").value];
    if (id.endsWith("-in") && a !== "" && b !== "" && a !== b) this.shown = new Set([Number(a), Number(b)]);
    this.again();
  }

  // From elsewhere on the page: what `a` has right and `b` has wrong.
  compare(a, b) {
    this.reset();
    byId("right-in").value = a;
    byId("wrong-in").value = b;
    this.changed("right-in");
    byId("h-answers").scrollIntoView();
  }

  reset() {
    for (const id of ["right-in", "wrong-in", "kind", "flag", "search"]) byId(id).value = "";
    this.shown = new Set(this.usual());
    this.again();
  }

  again() { this.drawn = PAGE; this.draw(); }

  matching() {
    const [right, wrong, kind, flag] = ["right-in", "wrong-in", "kind", "flag"].map((id) => byId(id).value);
    const wanted = byId("search").value.trim().toLowerCase();
    const is = (row, cell, value) => cell === "" || (row.answers[cell] && row.answers[cell].right === value);
    const seen = (row) => [...this.shown].map((i) => row.answers[i]).filter(Boolean);
    const flagged = (row) => {
      if (!flag) return true;
      const found = seen(row);
      if (flag === ":wrong") return found.length && found.every((a) => !a.right);
      if (flag === ":differ") return new Set(found.map((a) => a.right)).size > 1;
      if (flag === ":failed") return found.some((a) => !a.texts.length);
      return found.some((a) => a.flags.includes(flag.slice(1)));
    };
    const said = (row) => !wanted || row.id.toLowerCase() === wanted || row.turns.some((t) => t.toLowerCase().includes(wanted)) ||
      seen(row).some((a) => a.texts.some((t) => t.toLowerCase().includes(wanted)));
    return this.data.rows.filter((row) => is(row, right, true) && is(row, wrong, false) && (!kind || row.kind === kind) && flagged(row) && said(row));
  }

  draw() {
    const cells = this.data.cells;
    byId("shown").replaceChildren(...cells.map((cell, i) => make("button", { type: "button", "aria-pressed": this.shown.has(i) ? "true" : "false",
      onclick: () => { if (this.shown.has(i)) this.shown.delete(i); else this.shown.add(i); this.again(); } }, foreign(this.cellName(cell)))));
    const found = this.matching();
    byId("count").textContent = `${thousands(found.length)} of ${thousands(this.data.rows.length)} probes`;
    byId("rows").replaceChildren(...found.slice(0, this.drawn).map((row) => this.row(row)));
    const rest = found.length - this.drawn;
    byId("more").replaceChildren(rest > 0 ? make("button", { type: "button", onclick: () => { this.drawn += PAGE; this.draw(); } }, `Show more (${thousands(rest)} left)`) : "");
  }

  row(row) {
    return make("article", { class: "card row" },
      make("p", { class: "small soft" }, `${row.id} · ${row.kind}`),
      row.turns.map((turn, n) => make("div", { class: "query", dir: "auto" }, row.turns.length > 1 ? `${n + 1}. ${turn}` : turn)),
      make("div", { class: "columns" }, [...this.shown].sort((a, b) => a - b).map((i) => this.answer(row, i))));
  }

  answer(row, i) {
    const found = row.answers[i], name = foreign(this.cellName(this.data.cells[i]));
    if (!found) return make("div", {}, make("h3", {}, name), make("p", { class: "nothing" }, "Not answered yet."));
    const head = make("h3", {}, name, make("span", { class: "verdict" }, found.right ? "✓ right" : "✗ wrong"));
    return make("div", { class: found.right ? "right" : "wrong" }, head, found.why ? make("p", { class: "why", dir: "auto" }, found.why) : null,
      found.texts.map((text, n) => [
        found.texts.length > 1 ? make("p", { class: "turn" }, `to question ${n + 1}`) : null,
        text.trim() ? make("div", { class: "answer", dir: "auto" }, text) : make("p", { class: "nothing" }, "(empty answer)"),
      ]),
      found.texts.length ? make("p", { class: "small soft" }, found.flags.map((f) => make("span", { class: "flag" }, f)), `${thousands(found.tokens)} tokens, ended by ${[...new Set(found.reasons)].join(", ")}`) : null);
  }
}
