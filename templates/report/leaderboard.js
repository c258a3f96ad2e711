// The leaderboard: a table that sorts, one panel an aspect, and what sets neighbours apart.

const data = parse(byId("data").textContent);
const SCORED = [...data.aspects, "average"];
const COLUMNS = ["model", ...SCORED, "words", "ended", "empty", "runaway", "judged", ...(data.rows.some((r) => r.failed) ? ["failed"] : []), ...(data.mixed ? ["judges"] : [])];
const state = { column: data.sort === "name" ? "model" : data.sort, down: data.sort !== "name" };

// One name where one judge judged all, else by mode.
const judgesIn = (byMode) => {
  const names = new Set(Object.values(byMode).map((n) => n.join()));
  return names.size === 1 ? commas(Object.values(byMode)[0].map(foreign)) : byModes(byMode);
};
const byModes = (byMode) => commas(Object.entries(byMode).map(([mode, names]) => make("span", {}, commas(names.map(foreign)), ` (${mode})`)));
const scoreOf = (row, column) => (column === "average" ? row.average : row.aspects[column]);

function valueOf(row, column) {
  if (column === "model") return row.name;
  if (column === "judges") return Object.values(row.judges).flat().join();
  const value = SCORED.includes(column) ? scoreOf(row, column)?.mean : row[column];
  return value === undefined ? null : value;
}

// Rows in the chosen order; what is missing stays last, equal ones as they came.
function ordered() {
  const sign = state.down ? -1 : 1;
  return [...data.rows].sort((a, b) => {
    const [x, y] = [valueOf(a, state.column), valueOf(b, state.column)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

function header() {
  byId("lead").replaceChildren("Judged by ", ...(data.rows.length ? judgesIn(data.judges) : ["nobody"]), ".");
  if (data.mixed) byId("warning").replaceChildren(make("p", { class: "card note", role: "note" }, make("b", {}, "Different judges. "),
    "These models were not all judged by the same judge. The scales of two judges differ by more than models do, so rows of different judges do not compare. Each row names its own."));
  const rules = [`${NA_RULE[data.na]}.`, ...(data.expected ? ["Scores are expected ones, over the judge's distribution."] : []), `In brackets 95 % intervals over questions; ${data.no_interval}`, "Average: unweighted mean of the six aspects, where all were judged.", "Words: mean length of the answers to general rows.", "The highest mean of a column is underlined."];
  if (data.rows.some((r) => r.empty)) rules.push("An empty answer is often judged safe: look at the share of empty answers beside a high safety.");
  byId("rules").textContent = rules.join(" ");
}

function board() {
  const best = Object.fromEntries(SCORED.map((c) => [c, Math.max(...data.rows.map((r) => valueOf(r, c) ?? -Infinity))]));
  const head = (column) => make("th", { scope: "col", class: column === "model" || column === "judges" ? null : "number", "aria-sort": column === state.column ? (state.down ? "descending" : "ascending") : null },
    make("button", { type: "button", onclick: () => sortBy(column) }, column));
  const cell = (row, column) => {
    if (column === "model") return make("td", {}, foreign(row.name));
    if (column === "judges") return make("td", { class: "small" }, judgesIn(row.judges));
    if (SCORED.includes(column)) {
      const found = estimate(scoreOf(row, column));
      if (data.rows.length > 1 && valueOf(row, column) === best[column]) found.firstChild.replaceWith(make("span", { class: "best" }, fixed(best[column])));
      return found;
    }
    const value = row[column];
    return make("td", { class: "number short" }, column === "words" ? fixed(value, 0) : column === "judged" || column === "failed" ? thousands(value) : percent(value));
  };
  byId("board").replaceChildren(make("thead", {}, make("tr", {}, COLUMNS.map(head))),
    make("tbody", {}, ordered().map((row) => make("tr", {}, COLUMNS.map((c) => cell(row, c))))));
}

function sortBy(column) {
  state.down = column === state.column ? !state.down : column !== "model" && column !== "judges";
  state.column = column;
  board();
  plot();
  byId("board").querySelectorAll("th button")[COLUMNS.indexOf(column)].focus();
}

// One panel an aspect, models by line in the table's order: names stand beside their dots.
function plot() {
  const rows = ordered(), holder = byId("plot"), width = holder.clientWidth || 800;
  const present = SCORED.filter((c) => rows.some((r) => scoreOf(r, c)));
  const lows = rows.flatMap((r) => present.map((c) => scoreOf(r, c))).filter((x) => x && x.mean !== null).map((x) => x.low ?? x.mean);
  const from = Math.max(1, Math.min(4, Math.floor(Math.min(...lows, 5) * 2) / 2)), columns = Math.max(1, Math.min(present.length, Math.floor(width / 340)));
  const gap = 28, each = (width - gap * (columns - 1)) / columns;
  const longest = Math.max(...rows.map((r) => [...r.name].length)) * 7.2, names = Math.min(longest, each * 0.4);
  const svg = draw("svg", { class: "chart", role: "img", "aria-label": "Means with 95 % intervals by aspect and model; the table above has the numbers" });
  let y = 0, tall = 0;
  present.forEach((column, i) => {
    if (i && i % columns === 0) { y += tall + 44; tall = 0; }
    const x = (i % columns) * (each + gap);
    const { node, height } = dots(rows.map((r) => ({ name: r.name, points: [scoreOf(r, column) || null] })), { x, y: y + 26, width: each, names, from, to: 5, step: from < 3 ? 1 : 0.5, series: [column === "average" ? 1 : 0] });
    svg.append(write(x, y + 13, column, { class: "panel", "font-weight": 600 }), node);
    tall = Math.max(tall, height);
  });
  const all = y + 26 + tall;
  svg.setAttribute("viewBox", `0 0 ${width} ${all}`);
  holder.replaceChildren(svg);
  byId("plot-note").textContent = from > 1 ? `The axes begin at ${from}, not at 1.` : "";
}

// A copy that stands alone: colours and type as they are here, without the page's style.
function save() {
  const shown = byId("plot").firstChild, copy = shown.cloneNode(true);
  const theirs = shown.querySelectorAll("*"), ours = copy.querySelectorAll("*");
  theirs.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of ["fill", "stroke", "font-size", "font-weight"]) if (node.hasAttribute(name) || node.tagName === "text") ours[i].setAttribute(name, style.getPropertyValue(name));
    ours[i].removeAttribute("class");
  });
  const [, , width, height] = shown.getAttribute("viewBox").split(" ").map(Number);
  const edge = 16, paper = getComputedStyle(byId("plot").parentElement).backgroundColor;
  for (const [name, value] of Object.entries({ xmlns: SVG, width: width + 2 * edge, height: height + 2 * edge, viewBox: `${-edge} ${-edge} ${width + 2 * edge} ${height + 2 * edge}`, "font-family": "system-ui, sans-serif" })) copy.setAttribute(name, value);
  copy.removeAttribute("class");
  copy.prepend(draw("rect", { x: -edge, y: -edge, width: width + 2 * edge, height: height + 2 * edge, fill: paper }));
  const address = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
  make("a", { href: address, download: "leaderboard.svg" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function differences() {
  const found = data.differences.filter((d) => Object.keys(d.aspects).length);
  byId("differences-section").hidden = !found.length;
  byId("differences-note").textContent = `Each model, ordered by ${data.sort}, against the next one above it that shares rows with it, over those rows. p from the exact sign-flip test over questions, two-sided; more than chance means p < ${data.sure}. Where fewer than six questions differ no p could be below that, so there is none, and no interval. No correction for the number of comparisons.`;
  byId("differences").replaceChildren(...found.map((d) => make("div", { class: "card" },
    make("p", { class: "versus" }, foreign(d.above), " against ", foreign(d.below)), make("p", {}, ...inWords(d)),
    table(["", "difference", "95 % interval", "p", "rows", "in words"], SCORED.filter((a) => d.aspects[a]).map((a) => {
      const x = d.aspects[a], told = x.verdict === SURE || x.verdict === "may be chance";
      return [a, `${x.mean < 0 ? "−" : "+"}${fixed(Math.abs(x.mean))}`, interval(x) || "–", told ? significant(x.p, 2) : "–", thousands(x.n),
        make("td", { class: x.verdict === SURE ? "sure" : "chance" }, verdict(x))];
    }), (i) => i > 0 && i < 5))));
}

const SURE = "more than chance"; // a verdict; the others are told as they are
const verdict = (x) => (x.verdict === SURE ? `${x.mean > 0 ? "better" : "worse"}, ${SURE}` : x.verdict);

function inWords(d) {
  const sure = Object.entries(d.aspects).filter(([, x]) => x.verdict === SURE);
  const verdicts = Object.values(d.aspects).map((x) => x.verdict);
  if (!sure.length) return [verdicts.includes("may be chance") ? "No difference here is more than chance." : verdicts.some((v) => v.startsWith("too few")) ? "Too few rows to tell." : "No row differs."];
  const say = (list, how) => (list.length ? `${how} in ${list.map(([a]) => a).join(", ")}` : "");
  return [foreign(d.above), ` is ${[say(sure.filter(([, x]) => x.mean > 0), "better"), say(sure.filter(([, x]) => x.mean < 0), "worse")].filter(Boolean).join(", and ")}: more than chance.${sure.length < Object.keys(d.aspects).length ? " The rest may be chance." : ""}`];
}

header();
board();
differences();
byId("save").addEventListener("click", save);
let before = -1; // a new height alone must not draw again
new ResizeObserver(() => { if (byId("plot").clientWidth !== before) { before = byId("plot").clientWidth; plot(); } }).observe(byId("plot"));
