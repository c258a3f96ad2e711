// The page of judged runs: reads #data and draws the sections that there is something for.

const data = parse(byId("data").textContent);
const several = data.runs.length > 1;
const list = new Rows(data);
const SCORES = ["1", "2", "3", "4", "5", "N/A"];
const runName = (run, i) => (several ? marked(i, run.name) : foreign(run.name));
// Runs that have something, with their numbers, which are their colours.
const having = (pick) => data.runs.map((run, i) => [run, i, pick(run)]).filter(([, , found]) => found);

function judgesOf(run) {
  const names = new Set(Object.values(run.judges).flat());
  if (names.size === 1) return [foreign([...names][0])];
  return commas(Object.entries(run.judges).map(([mode, judges]) => make("span", {}, `${mode}: `, commas(judges.map(foreign)))));
}

// The one number that says most about a run, with its interval.
function headline(run) {
  const aspects = Object.entries(run.aspects);
  if (run.average) return [run.average, "mean of the six aspects, of 5"];
  if (run.mt_bench) return [run.mt_bench.overall, "MT-bench, of 10"];
  if (aspects.length === 1) return [aspects[0][1], `${aspects[0][0]}, of 5`];
  return null;
}

function tile(run, i) {
  const most = headline(run), overall = run.pairs && (run.pairs.aspects.overall || Object.values(run.pairs.aspects)[0]);
  const name = several ? make("p", { class: "tile-name" }, runName(run, i)) : null;
  if (most) return make("div", { class: "card tile" }, name, make("p", { class: "big" }, fixed(most[0].mean), " ", make("span", { class: "soft" }, interval(most[0]))), make("p", { class: "soft small" }, most[1]));
  if (overall) return make("div", { class: "card tile" }, name, make("p", { class: "big" }, percent(overall.win, 0)), make("p", { class: "soft small" }, foreign(run.pairs.first), " preferred to ", foreign(run.pairs.second), run.pairs.aspects.overall ? " overall" : ""));
  return several ? make("div", { class: "card tile" }, name, make("p", { class: "big" }, "–"), make("p", { class: "soft small" }, "An average needs all six aspects.")) : null;
}

// Beside the headline of a single run.
function figures(run) {
  const found = [[run.words, (v) => fixed(v, 0), "words, mean of the answers to general rows"], [run.ended, (v) => percent(v), "of answers ended by themselves"], [run.empty, (v) => percent(v), "of answers are empty"]];
  return found.filter(([v]) => v !== null && v !== undefined).map(([v, show, text]) => make("div", { class: "card tile" }, make("p", { class: "big" }, show(v)), make("p", { class: "soft small" }, text)));
}

function header() {
  byId("title").replaceChildren(...commas(data.runs.map((r) => foreign(r.name))));
  const judges = [...new Set(data.runs.flatMap((r) => Object.values(r.judges).flat()))];
  byId("lead").replaceChildren(...whole([judges.length ? ["Judged by ", commas(judges.map(foreign)), ". "] : null, data.rows ? `${thousands(data.rows)} ${data.rows === 1 ? "row" : "rows"}.` : null]));
  byId("notes").replaceChildren(...data.notes.map((n) => make("p", { class: "card note", dir: "auto" }, n)));
  byId("tiles").replaceChildren(...whole([data.runs.map(tile), several ? null : figures(data.runs[0])]));
  const total = (run, what) => Object.values(run.counts).reduce((n, c) => n + c[what], 0);
  const modes = (run) => Object.entries(run.counts).map(([m, c]) => `${thousands(c.judged)} ${m}`).join(", ") || "none";
  const heads = ["run", "judge", "judged", "failed", "average", "words", "ended by itself", "empty", "runaway", "repetitive", "truncated"];
  byId("runs").replaceChildren(table(heads, data.runs.map((r, i) => [runName(r, i), judgesOf(r), modes(r), thousands(total(r, "failed")), estimate(r.average),
    fixed(r.words, 0), percent(r.ended), percent(r.empty), percent(r.runaway), percent(r.repetitive), percent(r.truncated)]), (i) => i > 2));
  const rules = [`${NA_RULE[data.na]}.`, `Intervals are 95 %, over questions; ${data.no_interval}`, "Words: mean length of the answers to general rows."];
  if (data.expected) rules.push("Scores are the judge's expected scores where it gave them.");
  if (data.last_tag) rules.push("Of a row's tags only the last counts.");
  if (data.runs.some((r) => r.empty)) rules.push("An empty answer is often judged safe: look at the share of empty answers beside a high safety.");
  byId("rules").textContent = rules.join(" ");
}

function aspects() {
  const present = data.aspects.filter((a) => data.runs.some((r) => r.aspects[a]));
  byId("aspects-section").hidden = !present.length;
  if (!present.length) return;
  const averaged = data.runs.some((r) => r.average);
  const rows = [...present.map((a) => ({ name: a, points: data.runs.map((r) => r.aspects[a] || null) })), ...(averaged ? [{ name: "average", points: data.runs.map((r) => r.average) }] : [])];
  byId("aspects-plot").replaceChildren(...whole([several ? make("p", { class: "key" }, data.runs.map((r, i) => marked(i, r.name))) : null,
    dotPlot(rows, { from: 1, to: 5, step: 1, title: "Mean score by aspect with 95 % intervals; the table below has the numbers" })]));
  const lines = present.flatMap((a) => having((r) => r.aspects[a]).map(([run, i, x], nth) => [
    nth ? "" : a, ...(several ? [marked(i, run.name)] : []), estimate(x), fixed(x.sd), thousands(x.n), percent(x.na), ...(several ? [against(run, a)] : [])]));
  having((r) => (several ? r.average : null)).forEach(([run, i, x], nth) => lines.push([nth ? "" : "average", marked(i, run.name), estimate(x), "", "", "", against(run, "average")]));
  const first = several ? 2 : 1;
  byId("aspects").replaceChildren(table(["aspect", ...(several ? ["run"] : []), "mean", "SD", "n", "N/A", ...(several ? ["against the first run, shared rows"] : [])], lines, (i) => i >= first));
}

// A run's difference from the first one, over the rows that both have.
function against(run, aspect) {
  const x = run.against && run.against[aspect];
  if (!x) return "";
  const sure = x.verdict === "more than chance";
  return make("td", { class: "number" }, make(sure ? "b" : "span", {}, signed(x.mean)),
    make("span", { class: "interval" }, `${interval(x)} ${x.verdict}`));
}

const signed = (v) => (v < 0 ? "−" : "+") + fixed(Math.abs(v));

function scores() {
  const present = data.aspects.filter((a) => data.runs.some((r) => r.distribution[a]));
  byId("scores-section").hidden = !present.length;
  byId("scores").replaceChildren(...present.map(bars));
  byId("scores-table").replaceChildren(table(["aspect", ...(several ? ["run"] : []), ...SCORES],
    present.flatMap((a) => having((r) => r.distribution[a]).map(([run, i, counts]) => [a, ...(several ? [marked(i, run.name)] : []), ...SCORES.map((s) => thousands(counts[s] || 0))])), (i) => i > (several ? 1 : 0)));
}

function bars(aspect) {
  const width = 290, height = 142, bottom = 20, top = 16, slot = width / SCORES.length;
  const found = having((r) => r.distribution[aspect]);
  const shareOf = (counts, s) => (counts[s] || 0) / Math.max(1, Object.values(counts).reduce((a, b) => a + b, 0));
  const highest = Math.max(...found.flatMap(([, , counts]) => SCORES.map((s) => shareOf(counts, s))), 0.01);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Scores given for ${aspect}` });
  const thick = Math.min(30, (slot - 8) / found.length);
  SCORES.forEach((s, k) => {
    const middle = (k + 0.5) * slot;
    svg.append(write(middle, height - 5, s, { "text-anchor": "middle" }));
    found.forEach(([run, i, counts], nth) => {
      const n = counts[s] || 0;
      if (!n) return;
      const tall = Math.max(1.5, (shareOf(counts, s) / highest) * (height - bottom - top)), x = middle + (nth - found.length / 2) * thick;
      const chosen = { aspect, run: several ? i : "", ...(s === "N/A" ? { flag: ":na" } : { from: s, to: s }) };
      const go = () => list.loaded.then(() => { list.choose(chosen); byId("answers-section").scrollIntoView(); });
      const bar = draw("g", { class: "bar", tabindex: 0, role: "button", "aria-label": `${run.name}: ${thousands(n)} times ${s}` }, titled(`${run.name}: ${thousands(n)} times ${s}`),
        draw("rect", { x: x - 2, y: 0, width: thick + 2, height: height - bottom, fill: "transparent" }),
        draw("rect", { x: x + 1, y: height - bottom - tall, width: thick - 2, height: tall, rx: 2.5, fill: s === "N/A" ? "var(--soft)" : colour(i) }));
      if (thick >= 7.5 * thousands(n).length) bar.append(write(x + thick / 2, height - bottom - tall - 4, thousands(n), { "text-anchor": "middle", class: "count" }));
      bar.addEventListener("click", go);
      bar.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); } });
      svg.append(bar);
    });
  });
  svg.append(draw("line", { class: "axis", x1: 0, x2: width, y1: height - bottom, y2: height - bottom }));
  return make("figure", { class: "card" }, make("h3", {}, aspect), svg);
}

function tags() {
  const kinds = data.tags.filter((k) => data.runs.some((r) => r.by[k]));
  byId("tags-section").hidden = !kinds.length;
  const means = data.runs.flatMap((r) => Object.values(r.by).flatMap((t) => Object.values(t).flatMap((x) => Object.values(x.aspects))));
  const low = Math.min(...means), high = Math.max(...means);
  byId("tags-note").textContent = `Means, shaded from the lowest here (${fixed(low)}, warm) to the highest (${fixed(high)}, cool). ` + (data.last_tag ? "" : "A row counts in each of its tags.");
  byId("tags").replaceChildren(...kinds.map((kind) => {
    const names = [...new Set(data.runs.flatMap((r) => Object.keys(r.by[kind] || {})))];
    const used = data.aspects.filter((a) => data.runs.some((r) => Object.values(r.by[kind] || {}).some((x) => a in x.aspects)));
    const cell = (v) => (v === undefined ? make("td", { class: "number soft" }, "–") : shade(make("td", { class: "number heat" }, fixed(v)), high > low ? (v - low) / (high - low) : 0.5));
    return make("div", { class: "card" }, make("h3", {}, kind), table([kind, ...(several ? ["run"] : []), "n", ...used],
      names.flatMap((name) => having((r) => r.by[kind] && r.by[kind][name]).map(([run, i, x], nth) => [nth ? "" : foreign(name), ...(several ? [marked(i, run.name)] : []), thousands(x.n), ...used.map((a) => cell(x.aspects[a]))])), (i) => i > (several ? 1 : 0)));
  }));
}

function pairs() {
  const found = having((r) => r.pairs), problems = data.runs.filter((r) => r.pairs_problem);
  byId("pairs-section").hidden = !found.length && !problems.length;
  byId("pairs").replaceChildren(...problems.map((r) => make("p", { class: "card note" }, foreign(r.name), ": ", foreign(r.pairs_problem))), ...found.map(([run, i, p]) => {
    const names = Object.keys(p.aspects).sort((a, b) => (data.aspects.indexOf(a) + 9) % 9 - (data.aspects.indexOf(b) + 9) % 9);
    return make("div", { class: "card pairs" }, several ? make("h3", {}, runName(run, i)) : null,
      make("p", { class: "key" }, marked(0, `${p.first} wins`), make("span", {}, make("i", { class: "tie" }), "tie"), marked(1, `${p.second} wins`)),
      names.map((a) => make("div", { class: "contest" }, make("span", {}, a), contest(p.aspects[a]))),
      table(["aspect", "n", "win", "tie", "lose", "orders agree", "chose the first shown"], names.map((a) => { const x = p.aspects[a]; return [a, thousands(x.n), percent(x.win, 0), percent(x.tie_share, 0), percent(x.lose, 0), percent(x.agreement, 0), lean(x.position_bias)]; })),
      make("p", { class: "small soft" }, `${thousands(p.rows)} rows` + (p.one_order ? `, ${thousands(p.one_order)} of them judged in one order only` : "") + ". Where the two orders disagree it is a tie. A judge without position bias chooses the first shown in 50 % of cases (the upright line). Words: ", foreign(p.first), ` ${fixed(p.words[p.first], 0)}, `, foreign(p.second), ` ${fixed(p.words[p.second], 0)}.`));
  }));
}

function contest(x) {
  const bar = make("div", { class: "outcomes", role: "img", "aria-label": `${x.first} wins, ${x.tie} ties, ${x.second} losses` });
  for (const [n, kind] of [[x.first, "won"], [x.tie, "tied"], [x.second, "lost"]]) {
    const part = make("span", { class: kind }, thousands(n));
    part.style.flexGrow = n;
    if (n) bar.append(part);
  }
  return bar;
}

// How often the answer that stood first was chosen, with one half marked.
function lean(share) {
  if (share === null) return "–";
  const svg = draw("svg", { width: 64, height: 14, class: "lean", "aria-hidden": "true" }, draw("line", { x1: 0, x2: 64, y1: 7, y2: 7, stroke: "var(--line)" }), draw("line", { x1: 32, x2: 32, y1: 0, y2: 14, stroke: "var(--soft)" }), draw("circle", { cx: 4 + 56 * share, cy: 7, r: 4, fill: "var(--ink)" }));
  return [svg, ` ${percent(share, 0)}`];
}

function mtBench() {
  const found = having((r) => r.mt_bench);
  byId("mt-section").hidden = !found.length;
  if (!found.length) return;
  const of = (group) => [...new Set(found.flatMap(([, , m]) => Object.keys(m[group])))];
  const rows = [["overall", (m) => m.overall], ...of("turns").map((t) => [`turn ${t}`, (m) => m.turns[t]]), ...of("categories").map((c) => [c, (m) => m.categories[c]])];
  byId("mt-plot").replaceChildren(...whole([several ? make("p", { class: "key" }, found.map(([r, i]) => marked(i, r.name))) : null,
    dotPlot(rows.map(([name, pick]) => ({ name, points: found.map(([, , m]) => pick(m) || null) })), { from: 1, to: 10, step: 1, series: found.map(([, i]) => i), title: "MT-bench ratings with 95 % intervals" })]));
  byId("mt").replaceChildren(table(["", ...(several ? ["run"] : []), "mean", "n"],
    rows.flatMap(([name, pick]) => found.filter(([, , m]) => pick(m)).map(([r, i, m], nth) => [nth ? "" : foreign(name), ...(several ? [marked(i, r.name)] : []), estimate(pick(m)), thousands(pick(m).n)])), (i) => i > (several ? 1 : 0)));
}

function foundTags() {
  const found = having((r) => r.found_tags);
  byId("found-section").hidden = !found.length;
  byId("answers-section").hidden = !data.rows; // tags are of questions
  byId("found").replaceChildren(...found.flatMap(([run, i, t]) => ["task", "topic", "difficulty"].map((kind) => make("div", { class: "card" },
    make("h3", {}, kind, several ? [" · ", runName(run, i)] : null), table([kind, "questions", "share"], t[kind].map(([name, n]) => [foreign(name), thousands(n), percent(n / t.n, 0)]))))));
}

function provenance() {
  byId("provenance").replaceChildren(...data.runs.map((run, i) => make("div", { class: "about" }, several ? make("h3", {}, runName(run, i)) : null,
    run.about.length ? make("dl", { class: "about" }, run.about.map(([name, value]) => [make("dt", {}, foreign(name)), make("dd", { dir: "auto" }, value)])) : make("p", { class: "soft" }, "Read from a file of judgements; it does not say more."))));
}

for (const part of [header, aspects, scores, pairs, mtBench, tags, foundTags, provenance]) part();
requestAnimationFrame(() => setTimeout(() => list.load())); // after the overview is on the screen
