// The list of answers, and one answer with its tokens, opened on demand.

const KINDS = ["unshifted", "marginal", "shifted", "not in base"];
const KIND_CLASS = { 0: "k0", 1: "k1", 2: "k2", 3: "k3", "-": "kx" };
const HEIGHTS = { 0: 0.28, 1: 0.62, 2: 1, 3: 1, "-": 0 };
const PAGE = 100; // entries of the list that are drawn at a time

// One bar for each token: colour and height say its class.
function strip(classes, attributes) {
  const n = classes.length;
  const svg = draw("svg", { viewBox: `0 0 ${n} 1`, preserveAspectRatio: "none", ...attributes });
  let from = 0;
  for (let i = 1; i <= n; i++) {
    if (i < n && classes[i] === classes[from]) continue;
    const kind = classes[from], tall = HEIGHTS[kind];
    svg.append(draw("rect", { x: from, width: i - from, y: 1 - tall, height: tall, class: kind === "-" ? "fill-x" : `fill-${kind}` }));
    from = i;
  }
  return svg;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return parse(await new Response(stream).text());
}

// What report/shift_packing.py packed, as columns of each model: ten tokens at each position as `top`,
// ids with -1 for none, and their `top_p` and `outside` in hundredths of a percent.
function unfold(packed) {
  const n = packed.ids.length;
  const codes = (text) => Array.from(text, (c) => c.codePointAt(0));
  const unletter = (c) => (c >= 0xe000 ? c - 0x800 : c) - 0x80;
  const level = (c) => { const at = c - 0x23 - (c > 0x5c ? 1 : 0); return at === 91 ? 0 : 10 ** (4 - (4 * at) / 90); };
  const share = (m) => (m < 100 ? m : m < 190 ? 10 * (m - 90) : 100 * (m - 180));
  const number = (c) => {
    if (c < 0x80) return c === 0x30 ? 0 : null;
    if (c === 0x221e) return "\u221e";
    const at = unletter(c);
    return Number(`${(at % 90) + 10}e${Math.floor(at / 90) - 10}`);
  };
  const part = (list, s, width) => list.slice(s * n * width, (s + 1) * n * width);
  let id = 0, from = 0;
  const known = packed.known.map((step) => (id += step)), present = codes(packed.present).map(unletter);
  const tokens = packed.many.map((many) => present.slice(from, (from += many)).map((i) => known[i]));
  const all = {};
  for (const name of ["top", "first", "next", "rest", "outside", "p", "entropy", "kl", "kl_back", "js"]) all[name] = codes(packed[name]);
  const side = (_, s) => {
    const top = part(all.top, s, 10).map((c, k) => (c === 0x5d ? -1 : tokens[Math.floor(k / 10)][c - 0x5e]));
    const first = part(all.first, s, 1).map(unletter), next = part(all.next, s, 2).map((c) => share(unletter(c))), rest = part(all.rest, s, 7).map(level);
    let others = 0;
    const rank = packed.ids.map((token, t) => {
      const place = top.slice(10 * t, 10 * t + 10).indexOf(token);
      return place >= 0 ? place + 1 : packed.rank[s][others++];
    });
    const found = { top, rank, outside: part(all.outside, s, 1).map(level), p: part(all.p, s, 1).map(number), entropy: part(all.entropy, s, 1).map(number),
      top_p: first.flatMap((p, t) => [p, ...next.slice(2 * t, 2 * t + 2), ...rest.slice(7 * t, 7 * t + 7)]) };
    if (s) Object.assign(found, { status: packed.status[s - 1] }, ...["kl", "kl_back", "js"].map((name) => ({ [name]: part(all[name], s - 1, 1).map(number) })));
    return found;
  };
  const [aligned, ...contexts] = packed.rank.map(side);
  return { ids: packed.ids, aligned, contexts };
}

// Tokens in both lists over tokens in either.
function jaccard(ours, theirs) {
  const a = ours.filter((id) => id >= 0), b = theirs.filter((id) => id >= 0), both = a.filter((id) => b.includes(id)).length;
  return a.length && b.length ? both / (a.length + b.length - both) : null;
}

const share = (classes, kinds) => {
  let n = 0;
  for (const c of classes) if (kinds.includes(c)) n++;
  return classes.length ? n / classes.length : 0;
};

// Whether the position is shifted in the reference context and not in the one shown.
const isRepaired = (answer, state, i) =>
  state.context !== state.reference &&
  answer.contexts[state.reference].classes[i] === "2" && "01".includes(answer.contexts[state.context].classes[i]);

const FILTERS = {
  all: { label: "all tokens", test: () => true },
  marginal: { label: "marginal", test: (a, s, i) => a.contexts[s.context].classes[i] === "1" },
  shifted: { label: "shifted", test: (a, s, i) => a.contexts[s.context].classes[i] === "2" },
  absent: { label: "not in base", test: (a, s, i) => a.contexts[s.context].classes[i] === "3" },
  repaired: { label: "repaired", test: isRepaired },
};

class Answers {
  constructor(data, state) {
    this.data = data;
    this.state = state;
    this.drawn = PAGE;
    this.open = null; // index into data.answers
    this.details = new Map();
    this.token = 0;
    byId("answer").addEventListener("keydown", (event) => this.key(event));
  }

  matching() {
    const { state } = this, wanted = state.search.trim().toLowerCase();
    const test = FILTERS[state.filter].test;
    const found = this.data.answers.map((a, i) => [a, i]).filter(([a]) =>
      a.aligned === state.aligned &&
      (!wanted || a.query.toLowerCase().includes(wanted) || a.text.toLowerCase().includes(wanted) || a.id.toLowerCase() === wanted) &&
      (state.filter === "all" || range(0, a.contexts[state.context].classes.length).some((i) => test(a, state, i))));
    const order = {
      number: ([a]) => a.number,
      shifted: ([a]) => -share(a.contexts[state.context].classes, "23"),
      kl: ([a]) => -(a.contexts[state.context].kl ?? -1),
      length: ([a]) => -a.contexts[state.context].classes.length,
    }[state.sort];
    return found.map((e) => [order(e), e]).sort((x, y) => x[0] - y[0] || x[1][1] - y[1][1]).map((e) => e[1]);
  }

  list() {
    const found = this.matching();
    const shown = found.slice(0, this.drawn);
    byId("list").replaceChildren(...shown.map(([a, i]) => {
      const { classes, kl } = a.contexts[this.state.context];
      return make("li", {}, make("button", { type: "button", "aria-pressed": String(i === this.open), onclick: () => this.show(i, true) },
        make("span", { class: "query" }, a.query),
        strip(classes, { "aria-hidden": "true" }),
        make("span", { class: "figures" }, `${percent(share(classes, "23"))} shifted · KL ${significant(kl)} · ${classes.length} tokens`)));
    }));
    const rest = found.length - shown.length;
    byId("more").replaceChildren(found.length ? "" : "No answer matches.", rest > 0
      ? make("button", { type: "button", onclick: () => { this.drawn += PAGE; this.list(); } }, `Show more (${thousands(rest)} left)`) : "");
    if (found.length && !found.some(([, i]) => i === this.open)) this.show(found[0][1], false);
    else if (!found.length) { this.open = null; byId("answer").replaceChildren(make("p", { class: "soft" }, "Nothing to show.")); }
  }

  async show(i, scroll) {
    if (this.open !== i) this.token = 0;
    this.open = i;
    for (const button of byId("list").querySelectorAll("button[aria-pressed]")) button.setAttribute("aria-pressed", "false");
    const at = this.matching().findIndex(([, j]) => j === i);
    byId("list").querySelectorAll("button[aria-pressed]")[at]?.setAttribute("aria-pressed", "true");
    if (!this.details.has(i)) {
      if (typeof DecompressionStream === "undefined") {
        byId("answer").replaceChildren(make("p", {}, "This browser is too old to unpack the answers (it lacks DecompressionStream)."));
        return;
      }
      this.details.set(i, unfold(await unpack(byId(`answer-${i}`).textContent)));
    }
    if (this.open !== i) return; // another one was opened meanwhile
    this.draw();
    if (scroll && matchMedia("(max-width: 52rem)").matches) byId("answer").scrollIntoView({ behavior: "smooth" });
  }

  text(id) { return this.data.tokens[this.state.aligned][id] ?? `#${id}`; }

  draw() {
    if (this.open === null) return;
    const answer = this.data.answers[this.open], details = this.details.get(this.open);
    if (!details) { this.show(this.open, false); return; }
    const { state } = this, test = FILTERS[state.filter].test;
    const { classes, kl } = answer.contexts[state.context];
    const tokens = details.ids.map((id, i) => {
      const end = answer.end_token && i === details.ids.length - 1;
      const kind = KIND_CLASS[classes[i]];
      const name = ["t", kind, isRepaired(answer, state, i) ? "repaired" : "", end ? "special" : "", test(answer, state, i) ? "" : "dim"].filter(Boolean).join(" ");
      const text = this.text(id);
      return make("span", { class: name, "data-i": i }, end ? ` ${text}` : text);
    });
    this.spans = tokens;
    const box = make("div", { class: "text", tabindex: "0", role: "group", "aria-label": "Tokens of the answer; arrow keys move", onclick: (e) => {
      const span = e.target.closest(".t");
      if (span) { this.select(Number(span.dataset.i)); box.focus({ preventScroll: true }); }
    } }, tokens);
    this.bar = strip(classes, { class: "strip", role: "img", "aria-label": "The answer at a glance" });
    this.bar.addEventListener("click", (e) => {
      const r = this.bar.getBoundingClientRect();
      this.select(Math.min(classes.length - 1, Math.floor(((e.clientX - r.left) / r.width) * classes.length)));
      box.focus({ preventScroll: true });
    });
    this.mark = draw("rect", { class: "here", y: 0, height: 1, width: 1 });
    this.bar.append(this.mark);
    this.panel = make("div", { "aria-live": "polite" });
    const tags = Object.entries(answer.tags).map(([k, v]) => `${k}: ${v.join(", ")}`).join(" · ");
    byId("answer").replaceChildren(
      make("div", { class: "query" }, answer.query),
      make("p", { class: "small soft" }, `${answer.id}${answer.sample === null ? "" : `, answer ${answer.sample + 1}`}${tags ? ` · ${tags}` : ""} · ${percent(share(classes, "23"))} shifted · mean KL ${significant(kl)} · ${classes.length} tokens${answer.ended ? "" : " · not ended"}`),
      box, this.bar, this.panel,
      make("p", { class: "small soft no-print" }, "Click a token, or use ← and → in the text; ↑ and ↓ go to the next token that is not unshifted. In the lists = marks tokens that are in both."));
    this.select(Math.min(this.token, details.ids.length - 1));
  }

  key(event) {
    const answer = this.data.answers[this.open];
    if (!answer || event.altKey || event.ctrlKey || event.metaKey) return;
    const { classes } = answer.contexts[this.state.context], n = classes.length;
    let to = this.token;
    if (event.key === "ArrowRight") to = Math.min(n - 1, to + 1);
    else if (event.key === "ArrowLeft") to = Math.max(0, to - 1);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = n - 1;
    else if (event.key === "ArrowDown") { do to++; while (to < n && classes[to] === "0"); }
    else if (event.key === "ArrowUp") { do to--; while (to >= 0 && classes[to] === "0"); }
    else return;
    event.preventDefault();
    if (to >= 0 && to < n) this.select(to);
  }

  select(i) {
    this.spans[this.token]?.classList.remove("here");
    this.token = i;
    this.spans[i].classList.add("here");
    this.mark.setAttribute("x", i);
    const details = this.details.get(this.open), answer = this.data.answers[this.open];
    const ours = details.contexts[this.state.context], theirs = details.aligned;
    const kind = answer.contexts[this.state.context].classes[i];
    const lists = [
      [`${this.data.base}, ${this.data.contexts[this.state.context]}`, ours],
      [this.data.names[this.state.aligned], theirs],
    ].map(([title, side]) => [title, side, side.top.slice(10 * i, 10 * i + 10)]);
    const status = ours.status ? ours.status[i] : 0;
    const unsound = [[1, "the base model's logits are not finite"], [2, "the aligned model's logits are not finite"], [4, "the token is not in the base model's vocabulary"], [8, "a divergence is infinite"]]
      .filter(([bit]) => status & bit).map(([, text]) => text).join("; ");
    const fact = (name, value) => make("span", {}, `${name} `, make("b", {}, value));
    this.panel.replaceChildren(...whole([
      make("h3", {}, `Token ${i}: `, make("span", { class: `t mono ${KIND_CLASS[kind]}` }, visible(this.text(details.ids[i]))),
        ` ${KINDS[kind] ?? "no distribution"}${isRepaired(answer, this.state, i) ? `, repaired (shifted in ${this.data.contexts[this.state.reference]})` : ""}`),
      unsound ? make("p", { class: "small" }, `At this position ${unsound}.`) : null,
      make("div", { class: "facts" },
        fact("rank in base", ours.rank[i] ? thousands(ours.rank[i]) : "–"), fact("in aligned", theirs.rank[i] ? thousands(theirs.rank[i]) : "–"),
        fact("KL(base‖aligned)", significant(ours.kl[i])), fact("KL(aligned‖base)", significant(ours.kl_back[i])), fact("JS", significant(ours.js[i])),
        fact("entropy", `${significant(ours.entropy[i])} | ${significant(theirs.entropy[i])}`), fact("Jaccard@10", significant(jaccard(lists[0][2], lists[1][2]), 2))),
      make("div", { class: "pair" }, lists.map(([title, side, top], which) => {
        const other = lists[1 - which][2];
        const rows = top.map((id, j) => id < 0 ? null : make("tr", { class: [id === details.ids[i] ? "chosen" : "", other.includes(id) ? "both" : ""].join(" ").trim() || null },
          make("td", { class: "rank soft number" }, String(j + 1)), make("td", { class: "word mono", title: this.text(id) }, visible(this.text(id))),
          make("td", { class: "share number" }, hundredths(side.top_p[10 * i + j], j))));
        // The token itself, where it is not among the first ten.
        const chosen = !top.includes(details.ids[i]) && side.rank[i] ? make("tr", { class: "chosen" }, make("td", { class: "rank soft number" }, thousands(side.rank[i])),
          make("td", { class: "word mono" }, visible(this.text(details.ids[i]))), make("td", { class: "share number" }, side.p[i] === null ? "–" : hundredths(Math.round(side.p[i] * 10000)))) : null;
        return make("div", {}, make("h3", {}, title), make("table", {}, make("tbody", {}, rows, chosen,
          make("tr", { class: "soft" }, make("td", {}), make("td", {}, "all others"), make("td", { class: "share number" }, hundredths(side.outside[i], 1))))));
      })),
    ]));
  }
}

// The first of a list exactly, others to two digits, as they are known.
const hundredths = (n, place = 0) => (n < 0.5 ? "<0.01 %" : (place ? String(Number((n / 100).toPrecision(2))) : (n / 100).toFixed(2)) + " %");
