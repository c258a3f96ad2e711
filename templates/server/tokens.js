// Answers as tokens, coloured by what the models thought of them. Each colour has words, and a line
// below the word that tells it from the others without colour.

const SCALES = {
  probability: [["above 90 %", "p0"], ["50 to 90 %", "p1"], ["20 to 50 %", "p2"], ["5 to 20 %", "p3"], ["below 5 %", "p4"]],
  entropy: [["below 0.1 nats: no choice", "e0"], ["0.1 to 0.7", "e1"], ["0.7 to 1.5", "e2"], ["1.5 to 3", "e3"], ["3 and more: wide open", "e4"]],
  rank: [["unshifted: first choice", "k0"], ["marginal: second or third", "k1"], ["shifted: below", "k2"]],
  guide: [["the model’s own", "g0"], ["the guide’s", "g1"]],
  none: [],
};
const STEPS = { probability: [0.9, 0.5, 0.2, 0.05], entropy: [0.1, 0.7, 1.5, 3] };
const CLASS_NAMES = ["unshifted", "marginal", "shifted"];
const EXPLAINED = {
  probability: "How probable the model that wrote it found each token.",
  entropy: "How open the choice was at each token: the entropy of the model's distribution.",
  rank: "Whether the other model would also have written it: the token's rank there.",
  ownRank: "Whether it was the model's own first choice: the token's rank.",
  guide: "Who wrote each token: the model, or its guide, which is asked where the model is unsure.",
  none: "",
};

const rankClass = (rank) => (rank === null || rank === undefined ? -1 : rank === 1 ? 0 : rank <= 3 ? 1 : 2);

// What an answer's ranks are by: the other model where there is one that can be compared.
const ranksOf = (node) => node.classes || { by: node.model, ranks: node.tokens.map((t) => t[4]), logprobs: node.tokens.map((t) => t[3]) };

function level(node, i, colour) {
  const [, , , logprob, , entropy] = node.tokens[i];
  if (colour === "probability") return logprob === null ? -1 : STEPS.probability.filter((s) => Math.exp(logprob) < s).length;
  if (colour === "entropy") return entropy === null ? -1 : STEPS.entropy.filter((s) => entropy >= s).length;
  if (colour === "rank") return rankClass(node.classes ? node.classes.ranks[i] : node.tokens[i][4]);
  if (colour === "guide") return wroteIt(node.tokens[i]);
  return -1;
}

// 1 for a token of the guide, 0 for one of the model beside a guide, -1 where there was none.
const wroteIt = (token) => (token.length < 7 ? -1 : token[6] === null ? 0 : 1);

// Colours that there is something to show of.
const coloursHere = () => Object.entries(COLOURS).filter(([name]) => name !== "guide" || name === settings.colour || lanes().some((lane) => lane.guide));

function tokenSpan(node, i) {
  const [, text, bytes] = node.tokens[i];
  const step = level(node, i, settings.colour);
  const kind = step < 0 ? "" : SCALES[settings.colour][step][1];
  const special = bytes.length === 0 || /^bytes:/.test(text);
  const shown = special ? (bytes.length ? "\u2039" + bytes.map((b) => b.toString(16)).join(" ") + "\u203a" : text) : text.replaceAll("\n", "⏎\n");
  return make("span", { class: `t ${kind}${special ? " special" : ""}${node.from && i < node.prefilled ? " given" : ""}`, "data-i": i, role: "button", tabindex: i ? "-1" : "0" }, shown);
}

function tokensView(talk, node) {
  const holder = make("div", { class: "tokens", role: "group", "aria-label": "Tokens of the answer; arrows move, Enter shows what else was likely" });
  holder.append(...node.tokens.map((_, i) => tokenSpan(node, i)));
  const at = (event) => event.target.closest(".t");
  holder.addEventListener("click", (event) => { if (at(event) && node.state !== "writing") focusToken(holder, at(event), () => showLikely(talk, node, Number(at(event).dataset.i), at(event))); });
  holder.addEventListener("keydown", (event) => {
    const token = at(event);
    if (!token || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = { ArrowRight: token.nextElementSibling, ArrowLeft: token.previousElementSibling, Home: holder.firstElementChild, End: holder.lastElementChild }[event.key];
    if (event.key === "Enter" || event.key === " ") showLikely(talk, node, Number(token.dataset.i), token, true);
    else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") {
      if (event.key === "ArrowUp" || event.key === "ArrowDown") return;
      if (next) focusToken(holder, next, () => { if (byId("likely")) showLikely(talk, node, Number(next.dataset.i), next); });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return holder;
}

function focusToken(holder, token, then) {
  for (const other of holder.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  token.tabIndex = 0;
  token.focus({ preventScroll: true });
  then();
}

// What the colours mean, above the conversation.
function drawLegend() {
  const legend = byId("legend");
  legend.hidden = settings.view !== "tokens" || !info;
  if (legend.hidden) return;
  const picker = select(coloursHere(), settings.colour, (colour) => { choose({ colour }); draw(); byId("colour").focus(); }, { id: "colour", "aria-label": "Colour tokens by" });
  const comparable = info.pair && info.pair.comparable;
  const said = settings.colour === "rank" && !comparable ? EXPLAINED.ownRank : EXPLAINED[settings.colour];
  legend.replaceChildren(make("label", {}, "Colour by ", picker),
    make("span", { class: "key" }, SCALES[settings.colour].map(([words, kind]) => make("span", {}, make("i", { class: `t ${kind}`, "aria-hidden": "true" }, "token"), words))),
    make("small", { class: "soft" }, `${said} Choose a token to see what else was likely.`.trim()));
}

// A line in words under an answer's tokens.
function shares(node) {
  const count = node.tokens.length;
  if (!count) return null;
  if (settings.colour === "rank") {
    if (wantsRanks(node)) return `Asking ${otherLane(node.model).name} for its ranks …`;
    const { by, ranks } = ranksOf(node);
    const counts = [0, 0, 0];
    for (const rank of ranks) if (rankClass(rank) >= 0) counts[rankClass(rank)]++;
    const known = counts.reduce((a, b) => a + b, 0) || 1;
    return `By rank in ${labelled(by)}: ${counts.map((n, k) => `${CLASS_NAMES[k]} ${Math.round(100 * n / known)} %`).join(", ")}`;
  }
  if (settings.colour === "guide") {
    const beside = node.tokens.filter((t) => wroteIt(t) >= 0), theirs = beside.filter((t) => wroteIt(t));
    return beside.length ? `The guide wrote ${theirs.length} of ${plural(beside.length, "token")}, ${Math.round(100 * theirs.length / beside.length)} %` : "There was no guide.";
  }
  const mean = (values) => values.reduce((a, b) => a + b, 0) / (values.length || 1);
  if (settings.colour === "entropy") return `Mean entropy ${mean(node.tokens.map((t) => t[5]).filter((e) => e !== null)).toFixed(2)} nats`;
  return `${plural(count, "token")}, mean log-probability ${mean(node.tokens.map((t) => t[3]).filter((l) => l !== null)).toFixed(3)}`;
}

// --- ranks in the other model ----------------------------------------------------------------------

const asking = new Set();
const refused = new Set(); // answers whose ranks the server could not tell

const wantsRanks = (node) => Boolean(node.tokens.length && node.state !== "writing" && !node.classes && info.pair && info.pair.comparable && !refused.has(node.id) && sameModel(node) && otherLane(node.model));

// What an answer's model and the other are called in a request, each under its prompt.
function pairNames(node) {
  const other = otherLane(node.model);
  const own = `${node.model}:${node.prompt}`, theirs = `${other.name}:${promptOf(other)}`;
  return roleOf(node.model) === "base" ? { base: own, aligned: theirs } : { base: theirs, aligned: own };
}

async function askRanks(talk, node) {
  if (asking.has(node.id) || !wantsRanks(node)) return;
  asking.add(node.id);
  try {
    const messages = talk.messages(questionOfAnswer(talk, node), node.model, node.dropped);
    const said = await ask("/api/shift", { messages, ids: node.tokens.map((t) => t[0]), ...pairNames(node) });
    const side = roleOf(node.model) === "base" ? "aligned" : "base";
    node.classes = { by: otherLane(node.model).name, ranks: said.tokens.map((t) => t[side].rank), logprobs: said.tokens.map((t) => t[side].logprob) };
    keep(talk);
  } catch (error) {
    refused.add(node.id);
    fail(error);
  } finally {
    asking.delete(node.id);
    draw();
  }
}
