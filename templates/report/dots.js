// Dot plots with intervals, and how numbers, names and scores are written: for judged pages.

// Rounded as Python rounds, so that the page and the other tables agree: an exact half goes to the
// even digit. Halves at n digits that a binary number holds exactly are odd multiples of 1/2^(n+1).
function fixed(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const power = 10 ** digits, half = Math.abs(value * 2 ** (digits + 1)) % 2 === 1;
  return (half ? (2 * Math.round((value * power) / 2)) / power : value).toFixed(digits).replace("-", "\u2212");
}
const interval = (x, digits = 2) =>
  x && x.low !== null && x.low !== undefined ? `[${fixed(x.low, digits)}, ${fixed(x.high, digits)}]` : "";
const NA_RULE = { five: "N/A counts as 5", three: "N/A counts as 3", drop: "N/A is left out" };

// Text of others inside a line of ours: kept apart, so that its direction does not turn ours.
const foreign = (text) => make("bdi", {}, text);
const commas = (items) => items.flatMap((item, i) => (i ? [", ", item] : [item]));

// Shades a node from low (0) to high (1). The number itself always stands in it.
function shade(node, share) {
  if (share === null || Number.isNaN(share)) return node;
  const at = Math.min(1, Math.max(0, share));
  node.classList.add(at < 0.5 ? "low" : "high");
  node.style.setProperty("--heat", `${(Math.abs(at - 0.5) * 60).toFixed(0)}%`);
  return node;
}

function write(x, y, text, attributes) {
  const node = draw("text", { x, y, ...attributes });
  node.textContent = text;
  return node;
}

// A name cut to about `room` pixels, whole in its tooltip.
function label(x, y, text, room, attributes) {
  const letters = [...text], fits = Math.max(4, Math.floor(room / 7));
  const node = write(x, y, letters.length > fits ? letters.slice(0, fits - 1).join("") + "…" : text, { class: "name", ...attributes });
  if (letters.length > fits) node.append(titled(text));
  return node;
}

function titled(text) {
  const node = draw("title");
  node.textContent = text;
  return node;
}

// The mark of a series: its shape tells it apart where colours do not.
function mark(i, x, y, size = 5) {
  const fill = colour(i), s = size;
  const polygon = (...points) => draw("polygon", { points: points.map(([a, b]) => `${x + a},${y + b}`).join(" "), fill });
  switch (i % 6) {
    case 0: return draw("circle", { cx: x, cy: y, r: s, fill });
    case 1: return draw("rect", { x: x - s * 0.9, y: y - s * 0.9, width: s * 1.8, height: s * 1.8, fill });
    case 2: return polygon([0, -s * 1.3], [s * 1.3, 0], [0, s * 1.3], [-s * 1.3, 0]);
    case 3: return polygon([0, -s * 1.2], [s * 1.2, s], [-s * 1.2, s]);
    case 4: return polygon([-s * 1.2, -s], [s * 1.2, -s], [0, s * 1.2]);
    default: return draw("circle", { cx: x, cy: y, r: s * 0.75, fill: "none", stroke: fill, "stroke-width": 2.5 });
  }
}

const swatch = (i) => draw("svg", { width: 14, height: 14, class: "mark", "aria-hidden": "true" }, mark(i, 7, 7));
const marked = (i, name) => make("span", { class: "marked" }, swatch(i), foreign(name));

// rows: [{name, points: [{mean, low, high} or null, one a series]}]. Draws into a group at (x, y) and
// returns it with its height. options: {x, y, width, names (pixels; 0 puts names above), from, to, step,
// series (the number of each point's series), intervals, digits (of a figure; 2)}
function dots(rows, options) {
  const { x, y, width, names, from, to, digits } = options;
  const line = 19, gap = 11, above = names ? 0 : 17, figures = options.intervals ? 124 : 38;
  const left = x + names + 8, right = x + width - figures - 10;
  const px = (v) => left + ((Math.min(to, Math.max(from, v)) - from) / (to - from)) * (right - left);
  const group = draw("g"), grid = draw("g");
  group.append(grid);
  let at = y;
  rows.forEach((row) => {
    const height = row.points.length * line + above;
    group.append(label(x, at + (names ? height / 2 + 4 : 12), row.name, names || width));
    row.points.forEach((point, i) => {
      const middle = at + above + (i + 0.5) * line, series = options.series ? options.series[i] : i;
      if (!point || point.mean === null || point.mean === undefined) { group.append(write(right + 14, middle + 4, "–")); return; }
      const dot = draw("g", {}, titled(`${row.name}: ${fixed(point.mean, digits)} ${interval(point, digits)}`));
      if (point.low !== null && point.low !== undefined)
        dot.append(draw("line", { x1: px(point.low), x2: px(point.high), y1: middle, y2: middle, stroke: colour(series), "stroke-width": 3, "stroke-linecap": "round", opacity: 0.45 }));
      dot.append(mark(series, px(point.mean), middle));
      group.append(dot, write(right + 14, middle + 4, fixed(point.mean, digits), { class: "value" }));
      if (options.intervals) group.append(write(right + 50, middle + 4, interval(point, digits) || "[–]"));
    });
    at += height + gap;
  });
  const bottom = at - gap + 4;
  const steps = options.step ? range(0, Math.floor((to - from) / options.step + 1e-9) + 1).map((i) => from + i * options.step) : ticks(from, to, 4);
  for (const v of steps) {
    grid.append(draw("line", { class: "grid-line", x1: px(v), x2: px(v), y1: y - 3, y2: bottom, stroke: "var(--line)" }));
    group.append(write(px(v), bottom + 15, significant(v), { "text-anchor": "middle" }));
  }
  return { node: group, height: bottom + 20 - y };
}

// A dot plot that fills its card and is drawn anew when the card's width changes.
function dotPlot(rows, options) {
  const holder = make("div", { class: "plot" });
  const paint = () => {
    const width = holder.clientWidth || 640, wide = width >= 560;
    const longest = Math.max(...rows.map((r) => [...r.name].length)) * 7.2;
    const { node, height } = dots(rows, { x: 0, y: 6, width, names: wide ? Math.min(longest, width * 0.32) : 0, intervals: wide, ...options });
    holder.replaceChildren(draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height + 6}`, role: "img", "aria-label": options.title }, node));
  };
  let before = -1; // a new height alone must not draw again
  new ResizeObserver(() => { if (holder.clientWidth !== before) { before = holder.clientWidth; paint(); } }).observe(holder);
  return holder;
}

// A table: heads are texts; cells stand right where `numbers(column)` says so. A row that begins with
// "" belongs to the one above it.
function table(heads, rows, numbers = (i) => i > 0) {
  return make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Table" }, make("table", {},
    make("thead", {}, make("tr", {}, heads.map((h, i) => make("th", { scope: "col", class: numbers(i) ? "number" : null }, h)))),
    make("tbody", {}, rows.map((cells, nth) => make("tr", { class: rows[nth + 1] && rows[nth + 1][0] === "" ? "joined" : null }, cells.map((c, i) =>
      c instanceof HTMLTableCellElement ? c : make("td", { class: numbers(i) ? "number" : null }, c)))))));
}

// A mean with its interval below, as a cell.
const estimate = (x) => make("td", { class: "number" }, x ? fixed(x.mean) : "–",
  x ? [" ", make("span", { class: "interval" }, interval(x) || "[–]")] : null);
