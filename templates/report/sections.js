// A page of sections: tables, curves, lists of tokens, and answers side by side.

const data = parse(byId("data").textContent);
const PAGE = 30;
let drawn = PAGE;

function table(found) {
  const side = (i) => (found.columns[i].number ? "number" : null);
  return make("div", { class: "card" }, found.title ? make("h3", {}, found.title) : null,
    make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": found.title || "Table" }, make("table", {},
      make("thead", {}, make("tr", {}, found.columns.map((c, i) => make("th", { class: side(i), scope: "col" }, c.title)))),
      make("tbody", {}, found.rows.map((row) => make("tr", {}, row.map((cell, i) => make("td", { class: side(i) }, cell))))))));
}

function chart(found) {
  const share = (v) => (v === null ? "–" : percent(v, 0));
  return lineChart(found.series, {
    title: found.title, label: found.label, top: found.top,
    format: found.share ? share : undefined, xFormat: (v) => (found.names ? found.names[v] || "" : thousands(v)),
    xTicks: found.names ? found.names.map((_, i) => i) : undefined,
    xName: (i) => (found.names ? found.names[i] : found.series[0].x[i]),
  });
}

function tokens(found) {
  return make("div", { class: "card" }, make("h3", {}, found.title), found.note ? make("p", { class: "small soft" }, found.note) : null,
    found.items.length ? make("ul", { class: "token-list" }, found.items.map(([text, figure]) => make("li", {},
      make("span", { class: "word", title: text }, visible(text)), make("span", { class: "number soft" }, figure)))) : make("p", { class: "soft" }, "None."));
}

function section(found) {
  return make("section", {}, make("h2", {}, found.title), (found.text || []).map((t) => make("p", { class: "soft small" }, t)),
    (found.tables || []).map(table),
    found.charts && found.charts.length ? make("div", { class: "grid" }, found.charts.map(chart)) : null,
    found.tokens && found.tokens.length ? make("div", { class: "grid" }, found.tokens.map(tokens)) : null);
}

const KINDS = { other: "mark", given: "span" };

function answer(found) {
  return make("div", {}, make("h3", { class: "soft" }, found.name),
    found.error ? make("p", { class: "soft" }, `Failed: ${found.error}`)
      : make("div", { class: "answer" }, found.parts.map(([text, kind]) => (KINDS[kind] ? make(KINDS[kind], { class: kind }, text) : text))),
    make("p", { class: "small soft" }, found.note));
}

const holds = (row, wanted) => row.id.toLowerCase() === wanted || row.query.toLowerCase().includes(wanted) ||
  row.answers.some((a) => a.parts.map((p) => p[0]).join("").toLowerCase().includes(wanted));

function rows() {
  const wanted = byId("search").value.trim().toLowerCase();
  const found = data.answers.filter((row) => !wanted || holds(row, wanted));
  byId("count").textContent = `${thousands(found.length)} of ${thousands(data.answers.length)}`;
  byId("rows").replaceChildren(...found.slice(0, drawn).map((row) => make("article", { class: "card answer-row" },
    make("p", { class: "small soft" }, row.id), make("div", { class: "query" }, row.query),
    make("div", { class: "columns" }, row.answers.map(answer)))));
  const rest = found.length - drawn;
  byId("more").replaceChildren(rest > 0 ? make("button", { type: "button", onclick: () => { drawn += PAGE; rows(); } }, `Show more (${thousands(rest)} left)`) : "");
}

byId("kicker").textContent = data.kicker;
byId("title").textContent = data.title;
byId("lead").textContent = data.lead;
byId("sections").replaceChildren(...data.sections.map(section));
if (data.answers.length) {
  byId("answers-section").hidden = false;
  byId("answers-note").textContent = data.answers_note;
  byId("search").addEventListener("input", () => { drawn = PAGE; rows(); });
  rows();
}
byId("provenance").replaceChildren(make("dl", { class: "about" },
  data.about.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
