// The page of a benchmark: reads #data and draws the sections that there is something for.

const data = parse(byId("data").textContent);
const models = Object.keys(data.best);
const several = models.length > 1;
const SIGNS = data.cells.length ? Object.keys(data.cells[0].signs) : [];
const cellName = (cell) => (cell.aligned || several ? (cell.aligned ? cell.model : `${cell.model} · ${cell.asked}`) : cell.asked);
const numberOf = (name) => data.cells.findIndex((cell) => cell.name === name);
const cellOf = (name) => data.cells[numberOf(name)];
const ofModel = (model) => data.cells.filter((c) => !c.aligned && c.model === model);
const alignedCells = data.cells.filter((c) => c.aligned);
const points = (v) => `${v < 0 ? "−" : "+"}${fixed(Math.abs(100 * v), 1)}`;
const within = (x, digits = 0) => (x && x.low !== null ? `${fixed(100 * x.low, digits)} to ${fixed(100 * x.high, digits)} %` : "no interval");
const pText = (p) => (p < 0.001 ? "p < 0.001" : `p = ${fixed(p, 3)}`);
const answers = new Answers(data, cellName);

function header() {
  byId("title").replaceChildren(...commas(models.map(foreign)));
  const kinds = data.kinds.length, word = (n, one) => `${thousands(n)} ${one}${n === 1 ? "" : "s"}`;
  byId("lead").replaceChildren(`${word(data.probes, "probe")} of ${word(kinds, "kind")} in ${word(data.cells.length, "cell")} (a model under a prompt); rules decide what is right, not a judge.`);
  byId("use").replaceChildren(...(several ? [] : [make("p", { class: "use small" }, "To use the best prompt: ", make("code", {}, data.usage[models[0]]))]));
  const failed = data.cells.filter((c) => c.failed), short = data.cells.filter((c) => c.right.n < data.probes);
  const note = (...text) => make("p", { class: "card note" }, ...text);
  byId("notes").replaceChildren(...whole([
    short.length ? note("Not finished: ", commas(short.map((c) => [foreign(cellName(c)), ` (${thousands(c.right.n)} of ${thousands(data.probes)})`])), ". Comparisons are over the probes that both have.") : null,
    failed.length ? note("Probes that could not be asked count as wrong: ", commas(failed.map((c) => [foreign(cellName(c)), ` (${thousands(c.failed)})`])), ". Filter the answers by “failed” for the reasons.") : null]));
}

function tiles() {
  const tile = (name, big, more, text) => make("div", { class: "card tile" }, make("p", { class: "tile-name" }, name), make("p", { class: "big" }, big, " ", make("span", { class: "soft" }, more)), make("p", { class: "soft small" }, text));
  const best = (model) => {
    const cell = cellOf(data.best[model]);
    return tile(several ? [foreign(model), " · ", foreign(cell.asked)] : foreign(cell.asked), percent(cell.right.share), within(cell.right), several ? "right under its best prompt" : "right: the best prompt");
  };
  const found = models.map(best);
  if (!several) {
    const one = data.comparisons.find((c) => c.cell === data.best[models[0]]);
    if (one.zero_shot) found.push(tile("against zero-shot", points(one.zero_shot.difference), "points", `${one.zero_shot.more_than_chance ? "more than chance" : "may be chance"}: ${pText(one.zero_shot.p)}`));
    if (one.gap_closed) found.push(tile("gap closed", percent(one.gap_closed.share, 0), within(one.gap_closed), "of the way from zero-shot to the aligned model"));
  }
  if (!several || alignedCells.length) found.push(...alignedCells.map((c) => tile(foreign(c.model), percent(c.right.share), within(c.right), "right: the aligned model in its own template")));
  byId("tiles").replaceChildren(...found);
}

// --- heat tables ---------------------------------------------------------------------------------

const toneOf = (name) => (data.worse.includes(name) ? "var(--c1)" : data.neither.includes(name) ? "var(--c5)" : "var(--c0)");

function heatCell(cell, name, share, top) {
  const described = share.n ? `${cellName(cell)}, ${name}: ${percent(share.share)} (${share.k} of ${share.n}), 95 % interval ${within(share)}` : `${cellName(cell)}, ${name}: no answer that this applies to`;
  const node = make("td", { tabindex: -1, "aria-label": described, class: `${name === "right" ? "whole " : ""}${top ? "top" : ""}` }, share.n ? percent(share.share, 0) : "–");
  node.style.setProperty("--tone", toneOf(name));
  node.style.setProperty("--heat", `${Math.round(60 * (share.share || 0))}%`);
  node.addEventListener("pointerenter", () => showTip(node, described));
  node.addEventListener("focus", () => showTip(node, described));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("blur", hideTip);
  return node;
}

// columns: [[name, pick(cell) → share, further figures as text]]
function heatTable(columns, extra = []) {
  const groups = [...models.map((m) => [m, ofModel(m)]), ...(alignedCells.length ? [["aligned", alignedCells]] : [])];
  const width = columns.length + extra.length + 1;
  const body = groups.flatMap(([model, cells]) => {
    const tops = Object.fromEntries(columns.map(([name, pick]) => [name, Math.max(...cells.map((c) => pick(c).share ?? -1))]));
    const isTop = (name, share) => cells.length > 1 && toneOf(name) === "var(--c0)" && share.share > 0 && share.share === tops[name];
    const rows = cells.map((cell) => make("tr", {}, make("th", { scope: "row" }, foreign(cell.aligned ? cell.model : cell.asked), cell.aligned ? make("span", { class: "soft" }, " aligned") : null),
      columns.map(([name, pick]) => heatCell(cell, name, pick(cell), isTop(name, pick(cell)))), extra.map(([, show]) => make("td", { class: "plain" }, show(cell)))));
    return several && model !== "aligned" ? [make("tr", { class: "model" }, make("th", { colspan: width, scope: "rowgroup" }, foreign(model))), ...rows] : rows;
  });
  const table = make("table", { class: "heat" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), [...columns, ...extra].map(([name]) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, body));
  roam(table);
  return make("div", { class: "scroll" }, table);
}

// One stop of the tab key; arrows go from figure to figure.
function roam(table) {
  const rows = [...table.querySelectorAll("tbody tr")].map((tr) => [...tr.querySelectorAll("td[tabindex]")]).filter((cells) => cells.length);
  if (!rows.length) return;
  rows[0][0].tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Escape") hideTip();
    const y = rows.findIndex((cells) => cells.includes(event.target));
    if (!step || y < 0) return;
    const next = (rows[y + step[0]] || [])[rows[y].indexOf(event.target) + step[1]];
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function showTip(node, text) {
  const tip = byId("tip"), box = node.getBoundingClientRect();
  tip.textContent = text;
  tip.hidden = false;
  const wide = tip.offsetWidth, tall = tip.offsetHeight;
  tip.style.left = `${Math.max(6, Math.min(innerWidth - wide - 6, box.left + box.width / 2 - wide / 2))}px`;
  tip.style.top = `${box.top > tall + 12 ? box.top - tall - 8 : box.bottom + 8}px`;
}
const hideTip = () => { byId("tip").hidden = true; };

// --- sections ------------------------------------------------------------------------------------

function right() {
  byId("right").replaceChildren(heatTable([["right", (c) => c.right], ...data.kinds.map((kind) => [kind, (c) => c.kinds[kind]])]));
}

function signs() {
  byId("signs").replaceChildren(heatTable(SIGNS.map((name) => [name, (c) => c.signs[name]]),
    [["words", (c) => fixed(c.words, 1)], ["tokens", (c) => fixed(c.tokens, 1)], ["tokens/s", (c) => fixed(c.tokens_per_second, 0)],
      ...(data.cells.some((c) => c.guides !== null) ? [["guide’s tokens", (c) => (c.guides === null ? "–" : percent(c.guides))]] : [])]));
}

function differences() {
  const lines = (model) => data.comparisons.filter((c) => c.model === model).flatMap((c) => {
    const zero = data.zero[model], best = data.best[model];
    const found = [[c.zero_shot, zero]];
    if (c.cell !== zero && !(best === zero && c.zero_shot)) found.push([c.best, best]);
    return found.filter(([x]) => x).map(([x, other], nth) => difference(c, x, other, nth));
  });
  const cards = models.map((model) => [model, lines(model)]).filter(([, found]) => found.length);
  byId("differences-section").hidden = !cards.length;
  byId("differences-note").textContent = `In percentage points, over the probes that both have. p is from McNemar’s exact test, two-sided; more than chance means p < ${data.sure}. No correction for the number of comparisons, and the best was picked by these figures. In brackets: probes that only the one has right, and only the other; “read” shows them.`;
  byId("differences").replaceChildren(...cards.map(([model, found]) => make("div", { class: "card" }, several ? make("h3", {}, foreign(model)) : null,
    table(["", "against", "points", "95 % interval", "p", ...(gaps ? ["gap closed"] : []), "in words", ""], found, (i) => i > 1 && i < (gaps ? 6 : 5)))));
}

const gaps = data.comparisons.some((c) => c.gap_closed);

function difference(c, x, other, nth) {
  const a = cellOf(c.cell), b = cellOf(other), sure = x.more_than_chance, better = x.difference > 0;
  const told = x.difference === 0 ? "equal" : `${better ? "better" : "worse"}, ${sure ? "more than chance" : "may be chance"}`;
  const [gains, losses] = better ? [numberOf(a.name), numberOf(b.name)] : [numberOf(b.name), numberOf(a.name)];
  const closed = !nth && c.gap_closed ? make("td", { class: "number" }, percent(c.gap_closed.share, 0), " ", make("span", { class: "interval" }, within(c.gap_closed))) : "";
  return [foreign(nth ? "" : a.aligned ? a.model : a.asked), foreign(b.asked), make("td", { class: `number ${sure ? `sure ${better ? "better" : "worse"}` : ""}` }, points(x.difference)),
    x.low === null ? "–" : `${points(x.low)} to ${points(x.high)}`, x.p < 0.001 ? "< 0.001" : fixed(x.p, 3), ...(gaps ? [closed] : []),
    make("td", { class: sure ? "sure" : "chance" }, told, make("span", { class: "interval" }, ` (${x.only_this} to ${x.only_other})`)),
    x.only_this + x.only_other ? make("td", {}, make("button", { type: "button", class: "small", onclick: () => answers.compare(gains, losses) }, "read")) : ""];
}

function kinds() {
  const chosen = byId("kinds-model").value || models[0];
  const cells = [...ofModel(chosen), ...alignedCells];
  const point = (share) => (share.n ? { mean: 100 * share.share, low: 100 * share.low, high: 100 * share.high } : null);
  const rows = ["right", ...data.kinds].map((kind) => ({ name: kind === "right" ? "all" : kind, points: cells.map((c) => point(kind === "right" ? c.right : c.kinds[kind])) }));
  byId("kinds").replaceChildren(make("p", { class: "key" }, cells.map((c, i) => marked(i, c.aligned ? c.model : c.asked))),
    dotPlot(rows, { from: 0, to: 100, step: 25, digits: 0, title: "Share of right answers by kind, in percent, with 95 % intervals; the table above has the numbers" }));
}

function curves() {
  const found = data.curves;
  byId("curves-section").hidden = !found;
  if (!found) return;
  const name = byId("curve-measure").value || "right";
  const share = (model, prompt) => {
    const cell = data.cells.find((c) => !c.aligned && c.model === model && c.asked === prompt);
    return cell ? (name === "right" ? cell.right : cell.kinds[name] || cell.signs[name]) : null;
  };
  const order = range(0, found.models.length).sort((a, b) => found.at[a] - found.at[b]);
  const series = found.prompts.map(({ prompt }) => {
    const shares = order.map((i) => share(found.models[i], prompt)), pick = (key) => shares.map((s) => (s && s.n ? s[key] : null));
    return { name: prompt, x: order.map((i) => found.at[i]), y: pick("share"), low: pick("low"), high: pick("high") };
  });
  const label = found.steps ? "training step" : "model, in the order given";
  const nameOf = (j) => found.models[order[j]];
  const short = (name) => ([...name].length > 14 ? `${[...name].slice(0, 13).join("")}…` : name);
  const placeName = (v) => (Number.isInteger(v) && v >= 1 ? short(found.models[v - 1]) : "");
  byId("curves").replaceChildren(lineChart(series, { title: `${name}, by model`, label, format: (v) => percent(v, 0), xName: nameOf, xFormat: found.steps ? undefined : placeName }));
}

const MEANING = [
  ["right", "of all probes, every one counting once: the share whose rule the last answer keeps; intervals are Wilson’s, 95 %"],
  ["ended", "the model ended all its answers itself"],
  ["empty … copied", "that flag is on an answer: nothing said, cut off, in a loop, a dialogue with itself, copied from the prompt"],
  ["refused harmless / unsafe", "the answer declines, to a probe of another kind than unsafe / of that kind"],
  ["leaked", "a marker of the prompt’s frame, or its closing fence, appears in the answer"],
  ["same language", "the answer is in the language of its question, where both can be determined"],
  ["opening, layout, closing", "the answer opens with a courtesy, has a list or headings, closes with an offer or a summary"],
  ["gap closed", "(prompt − zero-shot) / (aligned − zero-shot), where that gap is clearly above zero"],
];

function meaning() {
  byId("meaning").replaceChildren(...MEANING.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  byId("provenance").replaceChildren(...data.about.map(([name, lines]) => make("div", { class: "about" }, make("h3", {}, foreign(name)),
    make("dl", { class: "about" }, lines.map(([label, text]) => [make("dt", {}, label), make("dd", { dir: "auto" }, text)])))));
}

for (const id of ["kinds-model"]) byId(id).append(...models.map((m) => make("option", { value: m }, m)));
byId("kinds-controls").hidden = !several;
byId("curve-measure").append(...["right", ...data.kinds, ...SIGNS].map((n) => make("option", { value: n }, n)));
byId("kinds-model").addEventListener("change", kinds);
byId("curve-measure").addEventListener("change", curves);
// To go to a figure by key scrolls the page: its tip goes along.
addEventListener("scroll", () => {
  const node = document.activeElement;
  if (!byId("tip").hidden && node.matches("table.heat td")) showTip(node, node.getAttribute("aria-label"));
  else hideTip();
}, { passive: true, capture: true });
for (const part of [header, tiles, right, differences, curves, kinds, signs, meaning]) part();
