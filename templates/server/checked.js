// Conversations from a file or from the browser's own store are checked field by field: what is not
// known is left out, what makes no sense is refused.

const FORMAT = "urial-local-conversations";
const MOST = { conversations: 200, nodes: 5000, text: 400_000, tokens: 40_000, file: 64 << 20 };

class Unfit extends Error {}

const isId = (value) => typeof value === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(value);
const isText = (value, most = MOST.text) => typeof value === "string" && value.length <= most;
const textOr = (value, other, most = 400) => (isText(value, most) ? value : other);
const numberOr = (value, other) => (typeof value === "number" && Number.isFinite(value) ? value : other);
const countOr = (value, other) => (Number.isInteger(value) && value >= 0 ? value : other);
const listOf = (value, most) => (Array.isArray(value) && value.length <= most ? value : []);
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function need(true_, said) { if (!true_) throw new Unfit(said); }

// The conversations of an exported file. Throws Unfit.
function conversationsOf(text) {
  need(text.length <= MOST.file, "The file is larger than 64 MB.");
  const found = parsed(text);
  need(isObject(found) && found.format === FORMAT && found.version === 1, "The file is not an export from this page.");
  need(Array.isArray(found.conversations) && found.conversations.length <= MOST.conversations, `The file must hold at most ${MOST.conversations} conversations.`);
  return found.conversations.map((one, i) => {
    try { return talkOf(one); } catch (error) {
      if (error instanceof Unfit) throw new Unfit(`Conversation ${i + 1} of the file: ${error.message}`);
      throw error;
    }
  });
}

// A conversation from its JSON. A node's parent comes before it, so that there are no circles.
function talkOf(value) {
  need(isObject(value) && isId(value.id), "It has no id.");
  need(Array.isArray(value.nodes) && value.nodes.length <= MOST.nodes, "Its list of nodes is missing or too long.");
  const talk = new Talk(value.id);
  talk.title = textOr(value.title, "", 200);
  talk.named = value.named === true;
  talk.created = numberOr(value.created, talk.created);
  talk.changed = numberOr(value.changed, talk.changed);
  for (const node of value.nodes) {
    need(isObject(node) && isId(node.id) && !talk.nodes.has(node.id), "A node has no id of its own.");
    need(isText(node.text), "A text is missing, or too long.");
    const parent = node.parent === null ? null : talk.nodes.get(node.parent);
    need(parent === null || parent?.kind === "question", "A node comes before the one that it follows.");
    if (node.kind === "question") talk.nodes.set(node.id, questionOf(node, parent, talk));
    else { need(node.kind === "answer" && parent, "A node is neither question nor answer."); talk.nodes.set(node.id, answerOf(node)); }
  }
  for (const [key, id] of pairs(value.chosen)) if (talk.nodes.get(id)?.kind === "question") talk.chosen.set(key, id);
  for (const [key, id] of pairs(value.picks)) if (talk.nodes.get(id)?.kind === "answer") talk.picks.set(key, id);
  return talk;
}

const pairs = (value) => listOf(value, MOST.nodes).filter((p) => Array.isArray(p) && p.length === 2 && isText(p[0], 400) && isId(p[1]));

function questionOf(node, parent, talk) {
  const after = listOf(node.after, 16).filter((id) => isId(id) && talk.nodes.get(id)?.kind === "answer" && talk.nodes.get(id).parent === parent?.id);
  return { id: node.id, kind: "question", parent: node.parent, after, text: node.text };
}

const STATES = ["done", "stopped", "failed"];
const ENDS = ["eos", "frame", "stop", "length", "context", "form", "loop"];

function answerOf(node) {
  need(isText(node.model, 400) && node.model, "An answer does not name its model.");
  const tokens = listOf(node.tokens, MOST.tokens).map(tokenOf);
  return {
    id: node.id, kind: "answer", parent: node.parent, text: node.text, model: node.model,
    prompt: textOr(node.prompt, ""), fingerprint: textOr(node.fingerprint, ""), guided: node.guided === true,
    state: STATES.includes(node.state) ? node.state : "stopped",
    error: textOr(node.error, "", 2000),
    finish: ENDS.includes(node.finish) ? node.finish : null,
    dropped: countOr(node.dropped, 0), prefilled: countOr(node.prefilled, 0),
    promptTokens: countOr(node.promptTokens, 0), cachedTokens: countOr(node.cachedTokens, 0),
    written: countOr(node.written, 0), speed: numberOr(node.speed, 0), wait: numberOr(node.wait, 0),
    sampling: samplingOf(node.sampling),
    from: isObject(node.from) && isId(node.from.answer) ? { answer: node.from.answer, position: countOr(node.from.position, 0), text: textOr(node.from.text, "") } : null,
    tokens: tokens.includes(null) ? [] : tokens, tops: [],
    classes: classesOf(node.classes, tokens.length),
  };
}

function samplingOf(value) {
  const found = {};
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) if (isObject(value) && numberOr(value[name], null) !== null) found[name] = value[name];
  if (isObject(value)) { const stop = listOf(value.stop, 16).filter((s) => isText(s, 256)); if (stop.length) found.stop = stop; }
  return found;
}

// [id, text, bytes, logprob, rank, entropy], as short as that since there are many; beside a guide
// also the model's own best probability where the guide wrote the token, and else null.
function tokenOf(value) {
  if (!Array.isArray(value) || value.length < 6 || value.length > 7) return null;
  const [id, text, bytes, logprob, rank, entropy] = value;
  const sound = Number.isInteger(id) && id >= 0 && isText(text, 4000) && Array.isArray(bytes) && bytes.length <= 4000 && bytes.every((b) => Number.isInteger(b) && b >= 0 && b < 256);
  const guide = value.length === 7 ? [numberOr(value[6], null)] : [];
  return sound ? [id, text, bytes, numberOr(logprob, null), countOr(rank, null), numberOr(entropy, null), ...guide] : null;
}

function classesOf(value, count) {
  if (!isObject(value) || !isText(value.by, 400) || !Array.isArray(value.ranks) || value.ranks.length !== count) return null;
  return { by: value.by, ranks: value.ranks.map((r) => countOr(r, null)), logprobs: listOf(value.logprobs, count).map((l) => numberOr(l, null)) };
}
