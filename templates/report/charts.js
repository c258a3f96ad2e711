"use strict";
// Small drawing kit: elements made from text only, and line charts with bands.

const SVG = "http://www.w3.org/2000/svg";

// make("p", {class: "soft"}, "text", child, …): texts are never parsed as markup.
function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...whole(children));
  return node;
}

// A flat list of children without the ones that are left out.
const whole = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined);

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Data whose objects hold nothing but what was written: a tag may be called "constructor".
const parse = (text) => JSON.parse(text, (_, value) =>
  (value !== null && typeof value === "object" && !Array.isArray(value) ? Object.setPrototypeOf(value, null) : value));

const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) =>
  share === null || share === undefined ? "–" : (100 * share).toFixed(digits) + " %";
const significant = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return String(Number(value.toPrecision(digits)));
};
const thousands = (n) => n.toLocaleString("en");

// A token on one line: control characters escaped, blank ones made visible.
const visible = (text) => {
  const escaped = JSON.stringify(text).slice(1, -1);
  return /^\s*$/.test(text) ? escaped.replaceAll(" ", "␣") : escaped;
};

// Round steps for an axis from low to high.
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) found.push(Number(v.toPrecision(12)));
  return found;
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];
const colour = (i) => `var(--c${i % 6})`;

function seriesKey(names) {
  return make("div", { class: "key" }, names.map((name, i) => {
    const line = draw("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: colour(i), "stroke-width": 2.5, "stroke-dasharray": DASHES[i % 6] });
    return make("span", {}, draw("svg", { width: 26, height: 12, "aria-hidden": "true" }, line), name);
  }));
}

// series: [{name, x, y, low, high}] with nulls for gaps. options: {title, unit, label, log, top, format}
function lineChart(series, options) {
  const figure = make("figure", { class: "card chart-card" });
  figure.append(make("h3", {}, options.title));
  const holder = make("div");
  const readout = make("p", { class: "small soft mono", "aria-live": "off" }, "\u00a0");
  figure.append(holder, readout, seriesKey(series.map((s) => s.name)));
  const format = options.format || ((v) => significant(v));
  const paint = () => holder.replaceChildren(chartSvg(series, options, format, holder.clientWidth || 360, readout));
  new ResizeObserver(() => paint()).observe(holder);
  return figure;
}

function chartSvg(series, options, format, width, readout) {
  const height = 210, left = 46, right = 12, top = 8, bottom = 32;
  // Wide bands of few answers are cut, rather than flatten the lines.
  const highest = Math.max(...series.flatMap((s) => s.y), 0);
  const all = series.flatMap((s) => [...s.y, ...(s.high || []).map((v) => (v === null ? null : Math.min(v, 3 * highest)))]).filter((v) => v !== null);
  const xs = series.flatMap((s) => s.x);
  const xLow = Math.min(...xs), xHigh = Math.max(...xs, xLow + 1);
  const scale = options.log ? (v) => Math.log10(Math.max(v, 0.5)) : (v) => v;
  const yLow = options.signed ? Math.min(0, ...all) : 0; // else nothing is negative; bands that reach below are cut
  let yHigh = options.top !== undefined ? options.top : Math.max(...all, 1e-9);
  if (options.log) yHigh = Math.max(scale(yHigh), 0.5);
  const px = (v) => left + ((v - xLow) / (xHigh - xLow)) * (width - left - right);
  const py = (v) => {
    const at = (scale(v) - yLow) / (yHigh - yLow);
    return top + (1 - Math.min(1, Math.max(0, at))) * (height - top - bottom);
  };
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${options.title}. ${options.label}` });
  const marks = options.log ? ticks(yLow, yHigh, 4).filter(Number.isInteger).map((v) => 10 ** v) : ticks(yLow, yHigh, 4);
  for (const v of marks) {
    svg.append(draw("line", { class: "grid-line", x1: left, x2: width - right, y1: py(v), y2: py(v) }));
    const text = draw("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" });
    text.textContent = format(v);
    svg.append(text);
  }
  for (const v of options.xTicks || ticks(xLow, xHigh, Math.max(2, Math.floor(width / 90)))) {
    const text = draw("text", { x: px(v), y: height - bottom + 16, "text-anchor": "middle" });
    text.textContent = options.xFormat ? options.xFormat(v) : thousands(v);
    svg.append(text);
  }
  const label = draw("text", { x: left, y: height - 2 });
  label.textContent = options.label;
  svg.append(label, draw("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  series.forEach((s, i) => {
    for (const [from, to] of runs(s.x, s.low, s.high)) {
      const forth = range(from, to).map((j) => `${px(s.x[j])},${py(s.high[j])}`);
      const back = range(from, to).reverse().map((j) => `${px(s.x[j])},${py(s.low[j])}`);
      svg.append(draw("polygon", { points: [...forth, ...back].join(" "), fill: colour(i), opacity: 0.16 }));
    }
    for (const [from, to] of runs(s.x, s.y)) {
      const points = range(from, to).map((j) => `${px(s.x[j])},${py(s.y[j])}`).join(" ");
      svg.append(draw("polyline", { points, fill: "none", stroke: colour(i), "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": DASHES[i % 6] }));
      if (to - from === 1) svg.append(draw("circle", { cx: px(s.x[from]), cy: py(s.y[from]), r: 2.5, fill: colour(i) }));
    }
  });
  const cursor = draw("line", { class: "axis", y1: top, y2: height - bottom, "stroke-dasharray": "2 2", visibility: "hidden" });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = xLow + (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (xHigh - xLow);
    const longest = series.reduce((a, s) => (s.x.length > a.x.length ? s : a), series[0]);
    let near = 0;
    longest.x.forEach((v, j) => { if (Math.abs(v - x) < Math.abs(longest.x[near] - x)) near = j; });
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", px(longest.x[near]));
    cursor.setAttribute("x2", px(longest.x[near]));
    const at = options.xName ? options.xName(near) : longest.x[near];
    readout.textContent = `${at}: ` + series.map((s) => `${s.name} ${s.y[near] === undefined ? "–" : format(s.y[near])}`).join("   ");
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = "\u00a0"; });
  return svg;
}

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

// Stretches [from, to) over which none of the arrays has a gap.
function runs(x, ...arrays) {
  if (arrays.some((a) => !a)) return [];
  const found = [];
  let from = -1;
  x.forEach((_, i) => {
    const whole = arrays.every((a) => a[i] !== null && a[i] !== undefined);
    if (whole && from < 0) from = i;
    if (!whole && from >= 0) { found.push([from, i]); from = -1; }
  });
  if (from >= 0) found.push([from, x.length]);
  return found;
}
