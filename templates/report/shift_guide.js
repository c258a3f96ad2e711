// How often a guide would be asked (tasks.shift.unsure): how often one would be asked at each γ, and how
// much of the shift that would find. One figure and one table for the context that is chosen.

function guide() {
  const at = here().unsure;
  const section = byId("guide-section");
  section.hidden = !at.some((u) => u.rate !== null);
  if (section.hidden) return;
  const x = at.map((u) => u.gamma), whole = (v) => (v === null ? "–" : percent(v, 0));
  const line = (name, key) => ({ name, x, y: at.map((u) => u[key]) });
  const chart = lineChart([line("rate", "rate"), line("precision", "precision"), line("recall", "recall")],
    { title: "If a guide helped where the base is unsure", label: "γ: the base is unsure if its best token is below this probability", top: 1, format: whole, xFormat: (v) => v.toFixed(1), xName: (i) => `γ ${x[i]}` });
  const cell = (share) => make("td", { class: "number" }, percent(share));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ["γ", "rate", "precision", "recall"].map((h) => make("th", { class: "number" }, h)))),
    make("tbody", {}, at.map((u) => make("tr", {}, make("td", { class: "number" }, String(u.gamma)), cell(u.rate), cell(u.precision), cell(u.recall)))));
  const words = { rate: "how many of all tokens a guide would be asked for", precision: "how many of those are shifted here", recall: "how many of the shifted tokens it would be asked for" };
  const card = make("div", { class: "card" }, make("h3", {}, `The base under ${data.contexts[state.context]}`), make("div", { class: "scroll" }, table),
    make("dl", { class: "about small" }, Object.entries(words).map(([name, said]) => [make("dt", {}, name), make("dd", {}, said)])),
    make("p", { class: "small soft" }, "A prediction: here the base reads the aligned model’s answers, but with a guide it reads its own. Above a fifth, the two alternate, and neither guides."));
  byId("guide").replaceChildren(chart, card);
}
