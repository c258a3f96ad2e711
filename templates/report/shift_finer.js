// The finer statistics of a shift run: closed cards, each of which is drawn when it is opened.

// A small table: heads of columns, and rows whose first cell is a name.
function smallTable(heads, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, heads.map((h, i) => make("th", { class: i ? "number" : null }, h)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell, i) => make("td", { class: i ? "number" : null }, cell))))));
}

// A closed card; `draw` gives what is in it.
function folded(title, draw) {
  const box = make("details", { class: "card" }, make("summary", {}, title));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(...whole([draw()])); });
  return box;
}

const note = (text) => make("p", { class: "small soft" }, text);
const interval = (x) => (x.low === null || x.low === undefined ? "–" : `${(100 * x.low).toFixed(1)} – ${(100 * x.high).toFixed(1)}`);

function gainCard(c) {
  const g = c.gain, each = (t) => `${significant(t.mean)} × ${thousands(t.count)}`;
  return [
    note("Δ ln p = ln a(o) − ln b(o) of the token o that was written, in nats: above 0 where alignment promoted it, below where it suppressed it. Ends of answers are left out. Listed by sum: mean × occurrences."),
    g.n ? make("p", { class: "small" }, `Mean ${significant(g.mean)}, median ${significant(g.median)}; 5 % of positions below ${significant(g.p5)}, 5 % above ${significant(g.p95)}.`) : null,
    tokenCard("Promoted", "", g.promoted, each), tokenCard("Suppressed", "", g.suppressed, each)];
}

function totalsCard(c, config) {
  const t = c.totals, drawn = config.answers !== "given" && config.sampling && config.sampling.temperature === 1 && (config.sampling.top_p ?? 1) === 1;
  const row = (name, d) => [name, significant(d.mean), significant(d.mean_bits), significant(d.median)];
  return [
    smallTable(["sum over an answer", "mean", "in bits", "median"], [
      row("Δ ln p", t.gain), row("… without end", t.gain_without_end),
      row("KL(aligned‖base)", t.kl_aligned_base), row("… without end", t.kl_aligned_base_without_end)]),
    note(drawn ? "These answers are drawn from the aligned model at temperature 1, so both sums are unbiased estimates of the divergence between the two models' distributions over whole answers."
      : "These answers are not drawn from the aligned model at temperature 1, so the sums describe only these answers, and do not estimate the divergence between the models' distributions over answers."),
    t.left_out ? note(`${thousands(t.left_out)} answers with a term that is not finite are left out.`) : null];
}

function concentrationCard(c) {
  return [
    note("Which share of all KL(aligned‖base) sits in the first tokens of answers, and in the positions where it is largest. Ends of answers are left out."),
    smallTable(["first tokens", "share", "95 %"], c.concentration.first.map((x) => [String(x.tokens), percent(x.share), interval(x)])),
    smallTable(["largest positions", "share"], c.concentration.top.map((x) => [percent(x.top, 0), percent(x.share)]))];
}

function thresholdsCard(c, floor) {
  return [
    note("The share of positions at which the Jensen–Shannon divergence (at most 0.693 nats) is above a threshold."),
    smallTable(["JS above", "share"], c.sparsity.map((x) => [significant(x.js), percent(x.share)])),
    note(floor && floor.js && floor.js.n ? `Quantisation alone: JS is up to ${significant(floor.js.p95)} at 95 % of positions. Thresholds below that count noise.`
      : "Quantisation alone also moves it; --noise-floor measures how far.")];
}

function forksCard(c) {
  const f = c.forks;
  return [
    note("Forks: the fifth of all positions at which the base model is least sure."),
    smallTable(["", "positions", "shifted", "95 %"], [["at forks", thousands(f.inside.positions), percent(f.inside.share), interval(f.inside)],
      ["elsewhere", thousands(f.outside.positions), percent(f.outside.share), interval(f.outside)]]),
    make("p", { class: "small" }, `A fork has more than ${significant(f.threshold)} nats of entropy. The mean there is ${significant(f.base_entropy)} in the base model and ${significant(f.aligned_entropy)} in the aligned one; of the positions that are a fork of either, ${percent(f.overlap)} are of both.`)];
}

function confidenceCard(c) {
  return [
    note("By the base model's largest probability: how often the two models' first choices differ, and how often the token that was written is shifted."),
    smallTable(["base's largest", "positions", "differ", "shifted"], c.confidence.map((x) => [`${x.low.toFixed(1)} – ${(x.low + 0.1).toFixed(1)}`, thousands(x.positions), percent(x.differ), percent(x.shifted)]))];
}

function reachCard(c) {
  const rows = (list, show) => list.map((x) => [show(x.at), percent(x.share)]);
  return [
    note("The share of the aligned model's tokens that the base model could have drawn at all under a filter."),
    make("div", { class: "grid narrow" }, smallTable(["top-p", "share"], rows(c.reach.top_p, String)), smallTable(["min-p", "share"], rows(c.reach.min_p, String)), smallTable(["top-k", "share"], rows(c.reach.top_k, thousands)))];
}

function sampledCard(s) {
  return [
    note(`${thousands(s.answers)} answers sampled for ${thousands(s.questions)} questions.`),
    smallTable(["", "mean over questions"], [["branching factor", significant(s.branching.mean)], ["distinct openings (3 words)", percent(s.openings)],
      ...Object.entries(s.distinct).map(([n, share]) => [`distinct ${n}-grams of words`, percent(share)])]),
    note("Branching factor: exp of the mean entropy of nuclei at 0.9 for samples of at most 50 tokens; for longer ones, of the mean −ln p of the tokens that were drawn, in the nucleus.")];
}

// What is said in a line, and the cards below it.
function drawFiner(holder, model, c, config) {
  const cards = [
    folded("Promoted and suppressed tokens (Δ ln p)", () => gainCard(c)),
    folded("Sums over an answer", () => totalsCard(c, config)),
    folded("Where the divergence sits", () => concentrationCard(c)),
    folded("How few positions differ", () => thresholdsCard(c, model.noise_floor)),
    folded("Forks", () => forksCard(c)),
    folded("By the base model's confidence", () => confidenceCard(c)),
    folded("What filters let through", () => reachCard(c)),
    model.sampled ? folded("Samples", () => sampledCard(model.sampled)) : null];
  const first = c.concentration.first.find((x) => x.tokens === 10);
  holder.replaceChildren(
    make("p", {}, `The two distributions overlap by ${percent(c.overlap.mean)} on average. Alignment raised the tokens that were written by ${significant(c.gain.mean)} nats on average, and ${percent(first.share)} of the divergence sits in the first 10 tokens.`),
    make("div", { class: "grid" }, whole(cards)));
}
