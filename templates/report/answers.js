// The page of one or more generation runs: answers to the same questions side by side.

const data = parse(byId("data").textContent);
const PAGE = 50;
let drawn = PAGE;

function header() {
  byId("title").textContent = data.runs.map((r) => r.name).join(" · ");
  const heads = ["run", "model", "prompt", "rows", "ended by itself", "empty", "truncated", "repetitive", "runaway", "failed", "mean length, words"];
  byId("runs").replaceChildren(
    make("thead", {}, make("tr", {}, heads.map((h, i) => make("th", { class: i > 2 ? "number" : null }, h)))),
    make("tbody", {}, data.runs.map((r) => make("tr", {}, [r.name, r.model, r.prompt].map((t) => make("td", {}, t)),
      [thousands(r.answered), percent(r.ended), percent(r.empty), percent(r.truncated), percent(r.repetitive), percent(r.runaway), thousands(r.failed), significant(r.words)]
        .map((t) => make("td", { class: "number" }, t))))));
  const flags = [...new Set(data.rows.flatMap((row) => row.turns.flatMap((turn) => turn.answers.flatMap((a) => (a ? a.flags : [])))))].sort();
  byId("flag").append(...flags.map((f) => make("option", { value: f }, `only ${f}`)));
  const list = make("dl", { class: "about" });
  for (const r of data.runs) for (const [name, value] of r.about) list.append(make("dt", {}, `${r.name}: ${name}`), make("dd", {}, value));
  byId("provenance").replaceChildren(list);
}

function matching() {
  const wanted = byId("search").value.trim().toLowerCase(), flag = byId("flag").value;
  return data.rows.filter((row) =>
    (!flag || row.turns.some((t) => t.answers.some((a) => a && a.flags.includes(flag)))) &&
    (!wanted || row.id.toLowerCase() === wanted ||
      row.turns.some((t) => t.query.toLowerCase().includes(wanted) || t.answers.some((a) => a && a.text.toLowerCase().includes(wanted)))));
}

function answer(found, run) {
  const title = data.runs.length > 1 ? make("h3", { class: "soft" }, data.runs[run].name) : null;
  if (!found) return make("div", {}, title, make("p", { class: "soft" }, "No such row."));
  if (found.error) return make("div", {}, title, make("p", { class: "soft" }, `Failed: ${found.error}`));
  return make("div", {}, title, make("div", { class: "answer" }, written(found)),
    make("p", { class: "small soft" }, found.flags.map((f) => make("span", { class: "flag" }, f)), `${found.tokens} tokens, ${found.reason}`, found.guide ? `, ${percent(found.guide.rate)} of them the guide's` : null));
}

// The text; what a guide wrote is marked.
function written(found) {
  if (!found.guide) return found.text;
  return found.guide.parts.map(([text, theirs]) => (theirs ? make("mark", { class: "guided", title: "the guide's" }, text) : text));
}

function rows() {
  const found = matching();
  byId("count").textContent = `${thousands(found.length)} of ${thousands(data.rows.length)}`;
  byId("rows").replaceChildren(...found.slice(0, drawn).map((row) => make("article", { class: "card row" },
    row.turns.map((turn, n) => [
      make("p", { class: "small soft" }, `${row.id}${row.turns.length > 1 ? `, turn ${n + 1}` : ""}`),
      make("div", { class: "query" }, turn.query),
      make("div", { class: "columns" }, turn.answers.map(answer))]))));
  const rest = found.length - drawn;
  byId("more").replaceChildren(rest > 0 ? make("button", { type: "button", onclick: () => { drawn += PAGE; rows(); } }, `Show more (${thousands(rest)} left)`) : "");
}

byId("search").addEventListener("input", () => { drawn = PAGE; rows(); });
byId("flag").addEventListener("change", () => { drawn = PAGE; rows(); });
header();
rows();
