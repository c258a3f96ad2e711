// The page of a shift run: reads #data, draws the sections, keeps the reader's choices.

const data = parse(byId("data").textContent);
const first = data.summary.aligned[data.names[0]];
const state = {
  aligned: 0,
  reference: Math.max(0, data.contexts.indexOf(first ? first.reference : data.contexts[0])),
  context: 0, curves: "shift", filter: "all", sort: "number", search: "",
};
state.context = state.reference;
const answers = new Answers(data, state);
const found = () => data.summary.aligned[data.names[state.aligned]];
const here = () => found().contexts[data.contexts[state.context]];

// A row of buttons of which one is pressed.
function segmented(holder, entries, chosen, pick) {
  holder.replaceChildren(...entries.map(([value, label]) =>
    make("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => pick(value) }, label)));
}

function header() {
  byId("title").textContent = `${data.base} → ${data.names.join(", ")}`;
  const all = Object.values(data.summary.aligned);
  const count = all.reduce((n, a) => n + a.answers, 0), positions = all.reduce((n, a) => n + a.positions, 0);
  const failed = data.summary.errors.length;
  byId("lead").textContent = `${thousands(count)} answers, ${thousands(positions)} tokens` +
    (failed ? `; ${thousands(failed)} ${failed === 1 ? "row failed and is" : "rows failed and are"} left out` : "") + ".";
  const choices = byId("choices");
  choices.replaceChildren();
  if (data.names.length > 1) {
    const group = make("span", { class: "segmented", role: "group", "aria-label": "Aligned model" });
    segmented(group, data.names.map((n, i) => [i, n]), state.aligned, (i) => { state.aligned = i; refresh(); });
    choices.append(make("span", {}, "Aligned model "), group);
  }
  if (data.contexts.length > 1) {
    const group = make("span", { class: "segmented", role: "group", "aria-label": "Base context" });
    segmented(group, data.contexts.map((n, i) => [i, n]), state.context, (i) => { state.context = i; refresh(); });
    choices.append(make("span", {}, "Base context "), group);
  }
}

function stackedBar(shares) {
  const svg = draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" });
  let x = 0;
  ["unshifted", "marginal", "shifted", "not_in_base"].forEach((name, k) => {
    const width = 100 * (shares[name].share || 0);
    if (width) svg.append(draw("rect", { x, y: 5 - 5 * [0.7, 0.85, 1, 1][k], width, height: 10 * [0.7, 0.85, 1, 1][k], class: `fill-${k}` }));
    x += width;
  });
  const title = draw("title");
  title.textContent = `unshifted ${percent(shares.unshifted.share)}, marginal ${percent(shares.marginal.share)}, shifted ${percent(shares.shifted.share)}`;
  svg.append(title);
  return svg;
}

// An interval of a share, in percent.
const span = (x) => (x.low === null ? "–" : `${(100 * x.low).toFixed(1)} – ${(100 * x.high).toFixed(1)}`);

function overview() {
  const bars = make("div", { class: "bars" });
  const lacking = Object.values(data.summary.aligned).some((m) => Object.values(m.contexts).some((c) => c.classes.not_in_base.count));
  const rows = [];
  data.names.forEach((aligned) => {
    const model = data.summary.aligned[aligned];
    if (!model) return;
    const prefix = data.names.length > 1 ? `${aligned} · ` : "";
    for (const name of data.contexts) {
      const c = model.contexts[name];
      const s = c.classes, end = c.classes_of_end;
      bars.append(make("div", { class: "name" }, prefix + name), stackedBar(s));
      const cell = (text, title) => make("td", { class: "number", title: title || null }, text);
      rows.push(make("tr", {}, make("td", {}, prefix + name),
        cell(percent(s.unshifted.share), span(s.unshifted)), cell(percent(s.marginal.share), span(s.marginal)),
        make("td", { class: "number" }, make("span", {}, percent(s.shifted.share), make("span", { class: "soft small" }, ` (${span(s.shifted)})`))),
        lacking ? cell(percent(s.not_in_base.share)) : null,
        cell(percent(c.classes_without_end.shifted.share)), cell(end.positions ? percent(end.shifted.share) : "–"),
        cell(significant(c.kl_base_aligned.mean)), cell(significant(c.kl_base_aligned.median)),
        cell(percent(c.top1_agreement)),
        cell(c.repairs ? percent(c.repairs.share) : "–", c.repairs ? `${thousands(c.repairs.repaired)} of ${thousands(c.repairs.shifted_there)} shifted tokens; ${thousands(c.repairs.damaged)} others newly shifted` : null)));
    }
  });
  const heads = ["base context", "unshifted", "marginal", "shifted (95 %)", ...(lacking ? ["not in base"] : []), "… without end", "… end alone", "mean KL", "median KL", "same first", "repaired"];
  const key = make("p", { class: "key" }, ["unshifted", "marginal", "shifted", ...(lacking ? ["not in base"] : [])].map((n, k) => make("span", {}, make("i", { class: `swatch k${k}` }), n)));
  for (const row of rows) [...row.children].forEach((cell, i) => cell.setAttribute("data-head", heads[i])); // for narrow screens
  const table = make("div", { class: "scroll" }, make("table", { class: "stacked" }, make("thead", {}, make("tr", {}, heads.map((h, i) => make("th", { class: i ? "number" : null }, h)))), make("tbody", {}, rows)));
  const noise = found() && found().noise_floor;
  const shape = found() && found().batch_shape;
  byId("overview").replaceChildren(...whole([bars, key, table,
    make("p", { class: "small soft" }, `In brackets 95 % intervals over answers; ${data.no_interval} “Without end” leaves the token that ends an answer out, “end alone” counts only that. Same first: both models' first choice is the same token. KL is KL(base‖aligned) in nats, over the whole vocabulary. Repaired: share of the tokens shifted in ${data.contexts[state.reference]} that this context brings to rank 3 or better, the end of the answer aside.`),
    unsound(),
    noise ? make("p", { class: "small" }, `Quantisation alone (the base model against ${data.summary.config.noise_floor.file}): mean KL ${significant(noise.kl_base_other.mean)}, same first choice ${percent(noise.top1_agreement)}, another class at ${percent(noise.class_changed)} of positions.`) : null,
    shape && shape.positions ? make("p", { class: "small" }, `Batch shape alone (${thousands(shape.positions)} positions decoded one at a time against together): the base model's log-probabilities change by ${significant(shape.base_logprob.mean)} nats on average and ${significant(shape.base_logprob.max)} at most, another class at ${percent(shape.class_changed)} of positions. Differences that are not larger say nothing.`) : null]));
}

// What was left out of averages, and which rows failed, where there is any.
function unsound() {
  const lines = [];
  for (const [aligned, model] of Object.entries(data.summary.aligned))
    for (const name of data.contexts) {
      const counts = Object.entries(model.contexts[name].unsound).filter(([, n]) => n);
      if (counts.length) lines.push(`${aligned}, ${name}: ${counts.map(([k, n]) => `${thousands(n)} ${k.replaceAll("_", " ")}`).join(", ")}`);
    }
  const errors = data.summary.errors;
  return [
    lines.length ? make("p", { class: "small" }, `Left out of averages: ${lines.join("; ")}.`) : null,
    errors.length ? make("details", { class: "small" }, make("summary", {}, `${thousands(errors.length)} ${errors.length === 1 ? "row" : "rows"} failed`),
      make("ul", {}, errors.slice(0, 200).map((e) => make("li", {}, `${e.id}: ${e.error}`)))) : null,
  ];
}

function curves() {
  // One line for each context of the chosen model; with several models, one for each model.
  const several = data.names.length > 1;
  const lines = several
    ? data.names.filter((n) => data.summary.aligned[n]).map((n) => [n, data.summary.aligned[n].contexts[data.contexts[state.context]].curves])
    : data.contexts.map((n) => [n, found().contexts[n].curves]);
  const middle = (c) => c.from.map((f, i) => (f + c.to[i]) / 2);
  const build = (pick, x) => lines.map(([name, c]) => ({ name, x: x(c), ...pick(c) }));
  const band = (key) => (c) => ({ y: c[key].mean, low: c[key].low, high: c[key].high });
  const longest = lines.reduce((a, [, c]) => (c.from.length > a.from.length ? c : a), lines[0][1]);
  const xName = (i) => (longest.from[i] === longest.to[i] ? `position ${longest.from[i]}` : `positions ${longest.from[i]}–${longest.to[i]}`);
  const twentieths = (c) => c.relative_shifted.mean.map((_, i) => (i + 0.5) / c.relative_shifted.mean.length);
  const whole = (v) => (v === null ? "–" : percent(v, 0));
  const at = { label: "position in the answer", xName };
  const plainly = (key) => (c) => ({ y: c[key].mean });
  const sets = {
    shift: ["the shift", () => [
      lineChart(build(band("kl_base_aligned"), middle), { title: "KL(base‖aligned), nats", ...at }),
      lineChart(build(band("base_prob"), middle), { title: "Probability of the token under the base model", top: 1, format: whole, ...at }),
      lineChart(build(band("shifted"), middle), { title: "Shifted tokens by position", format: whole, ...at }),
      lineChart(build(band("relative_shifted"), twentieths), { title: "Shifted tokens by relative position", label: "from the beginning to the end of the answer", format: whole, xFormat: (v) => percent(v, 0), xName: (i) => `${5 * i}–${5 * i + 5} %` })]],
    rank: ["ranks", () => [
      lineChart(build((c) => ({ y: c.base_rank.mean, low: c.base_rank.low.map((v) => (v === null ? null : Math.max(v, 1))), high: c.base_rank.high }), middle), { title: "Rank under the base model, mean (logarithmic)", log: true, ...at }),
      lineChart(build((c) => ({ y: c.base_rank_median.median, low: c.base_rank_median.low, high: c.base_rank_median.high }), middle), { title: "Rank under the base model, median and quartiles", log: true, ...at })]],
    apart: ["how far apart", () => [
      lineChart(build(band("overlap"), middle), { title: "Overlap of the two distributions", top: 1, format: whole, ...at }),
      lineChart(build(band("kl_aligned_base"), middle), { title: "KL(aligned‖base), nats", ...at }),
      lineChart(build(plainly("gain"), middle), { title: "Δ ln p of the tokens that were written, nats", signed: true, ...at })]],
    branching: ["branching", () => [
      lineChart(build(band("base_branching"), middle), { title: "Branching of the base model: exp of its entropy", ...at }),
      lineChart(build(band("aligned_branching"), middle), { title: "Branching of the aligned model: exp of its entropy", ...at })]],
  };
  const chosen = byId("curve-set");
  chosen.replaceChildren(...Object.entries(sets).map(([name, [label]]) => make("option", { value: name, selected: name === state.curves }, label)));
  byId("curves").replaceChildren(...sets[state.curves][1]());
}

function tokenCard(title, note, items, figure) {
  return make("div", { class: "card" }, make("h3", {}, title), note ? make("p", { class: "small soft" }, note) : null,
    items.length ? make("ul", { class: "token-list" }, items.slice(0, 40).map((t) => make("li", {},
      make("span", { class: "word", title: t.text }, visible(t.text)), make("span", { class: "number soft" }, figure(t))))) : make("p", { class: "soft" }, "None."));
}

function tokens() {
  const c = here(), style = c.style;
  const kinds = make("div", { class: "card" }, make("h3", {}, "Style and content"),
    make("p", { class: "small soft" }, "Stylistic: punctuation, layout, function words, discourse markers, greetings, hedges (an English list). The end of the answer is left out."),
    make("div", { class: "bars" }, ["stylistic", "content"].map((n) => [make("div", { class: "name" }, n), stackedBar(style[n])])),
    make("p", { class: "small" }, `Shifted: ${percent(style.stylistic.shifted.share)} of ${thousands(style.stylistic.positions)} stylistic tokens, ${percent(style.content.shifted.share)} of ${thousands(style.content.positions)} content tokens.`));
  const cards = [
    tokenCard("Shifted most often", "times shifted, of all occurrences", c.tokens.by_count, (t) => `${thousands(t.shifted)} of ${thousands(t.count)}`),
    tokenCard("Shifted most surely", `share of occurrences, from ${c.tokens.min_count} on`, c.tokens.by_ratio, (t) => `${percent(t.shifted / t.count, 0)} of ${thousands(t.count)}`),
    kinds];
  if (c.repairs) {
    const r = c.repairs, from = data.contexts[state.reference];
    cards.push(tokenCard(`Repaired, against ${from}`, `${percent(r.share)} (95 %: ${span(r)}) of ${thousands(r.shifted_there)} tokens that are shifted in ${from} are not shifted here.`, r.tokens, (t) => `${thousands(t.count)} of ${thousands(t.of)}`));
    if (r.damaged) cards.push(tokenCard("Newly shifted", `${thousands(r.damaged)} tokens are shifted here and not in ${from}.`, r.tokens_damaged, (t) => thousands(t.count)));
  }
  byId("tokens").replaceChildren(...cards);
}

function tags() {
  const groups = Object.entries(here().tags);
  byId("tags-section").hidden = !groups.length;
  byId("tags").replaceChildren(...groups.map(([kind, values]) => make("div", { class: "card scroll" }, make("h3", {}, kind),
    make("table", {}, make("thead", {}, make("tr", {}, ["", "answers", "shifted", "95 %", "mean KL"].map((h, i) => make("th", { class: i ? "number" : null }, h)))),
      make("tbody", {}, Object.entries(values).sort((a, b) => b[1].shifted.share - a[1].shifted.share).map(([name, v]) => make("tr", {}, make("td", {}, name),
        make("td", { class: "number" }, thousands(v.answers)), make("td", { class: "number" }, percent(v.shifted.share)),
        make("td", { class: "number" }, span(v.shifted)), make("td", { class: "number" }, significant(v.kl_base_aligned)))))))));
}

function legend() {
  const sample = (kind, name, extra) => make("span", {}, make("span", { class: `t sample ${kind} ${extra || ""}`.trim() }, "token"), name);
  byId("legend").replaceChildren(sample("k0", "unshifted: the base model's first choice"), sample("k1", "marginal: second or third"),
    sample("k2", "shifted: rank 4 or more"), sample("k3", "not in the base vocabulary"),
    data.contexts.length > 1 ? sample("k0", `repaired: shifted in ${data.contexts[state.reference]}, not here`, "repaired") : "");
}

function provenance() {
  const config = data.summary.config, list = make("dl", { class: "about" });
  const add = (name, value) => list.append(make("dt", {}, name), make("dd", {}, value));
  const model = (m) => `${m.title} (${m.file}, ${m.architecture}, ${m.quantisation}, ${m.fingerprint})`;
  add("base model", model(config.base));
  config.aligned.forEach((m) => add("aligned model", `${model(m)}, prompt ${m.prompt} ${m.prompt_sha}`));
  for (const [name, p] of Object.entries(config.contexts)) add(`context ${name}`, p.sha);
  if (config.noise_floor) add("noise floor", model(config.noise_floor));
  add("answers", config.answers === "given" ? "given" : config.sampling.temperature ? `sampled, temperature ${config.sampling.temperature}, seed ${config.sampling.seed}` : "greedy");
  if (config.max_tokens) add("longest answer", `${thousands(config.max_tokens)} tokens`);
  add("KV cache", config.kv_type);
  data.sessions.forEach((s) => { add("run", `${s.started}, ${s.platform}; ${Object.entries(s.versions).map((v) => v.join(" ")).join(", ")}`); add("command", make("span", { class: "mono" }, s.command)); });
  byId("provenance").replaceChildren(list);
}

function filters() {
  const entries = Object.entries(FILTERS).filter(([name]) => (name !== "repaired" || data.contexts.length > 1) && (name !== "absent" || here().classes.not_in_base.count)).map(([name, f]) => [name, f.label]);
  segmented(byId("filter"), entries, state.filter, (value) => { state.filter = value; filters(); answers.drawn = PAGE; answers.list(); answers.draw(); });
}

function refresh() {
  header();
  provenance();
  if (!found()) { byId("overview").textContent = "There are no scored answers."; return; }
  overview();
  curves();
  drawFiner(byId("finer"), found(), here(), data.summary.config);
  tokens();
  guide();
  tags();
  legend();
  filters();
  answers.list();
  answers.draw();
}

byId("curve-set").addEventListener("change", (event) => { state.curves = event.target.value; curves(); });
byId("search").addEventListener("input", (event) => { state.search = event.target.value; answers.drawn = PAGE; answers.list(); });
byId("sort").addEventListener("change", (event) => { state.sort = event.target.value; answers.drawn = PAGE; answers.list(); });
refresh();
