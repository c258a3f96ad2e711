// Answers as they are written: the stream into the tree, and what is told when it ends.

const running = new Map(); // id of an answer → {controller, talk}

const runningIn = (talk) => [...running].filter(([, run]) => run.talk === talk).map(([id]) => id);

function stopAll(talk) {
  for (const id of runningIn(talk)) running.get(id).controller.abort();
}

// A new question, to all models that are asked.
function askAll(talk, text, parent, after) {
  const question = talk.ask(text, parent, after);
  for (const lane of asked()) answer(talk, question, lane, promptOf(lane));
  keep(talk);
  return question;
}

// Have a model answer. `begun`: tokens that the answer begins with, and where they come from.
async function answer(talk, question, lane, prompt, { begun = null, dropped = 0 } = {}) {
  const node = talk.put({
    id: newId(), kind: "answer", parent: question.id, text: begun ? begun.text : "", model: lane.name, prompt,
    fingerprint: lane.fingerprint, guided: Boolean(lane.guide), state: "writing", error: "", finish: null, dropped,
    prefilled: begun ? begun.tokens.length : 0, promptTokens: 0, cachedTokens: 0, written: 0, speed: 0, wait: 0,
    sampling: sampling(), from: begun ? begun.from : null, tokens: begun ? [...begun.tokens] : [], tops: [], classes: null,
  });
  if (begun && begun.ended) {
    Object.assign(node, { state: "done", finish: "eos" });
    draw();
    return keep(talk);
  }
  const controller = new AbortController();
  running.set(node.id, { controller, talk });
  draw();
  const body = { model: `${lane.name}:${prompt}`, messages: talk.messages(question, lane.name, dropped), stream: true, urial: { tokens: true }, ...node.sampling };
  if (begun) body.prefill_ids = begun.tokens.map((token) => token[0]);
  const asked = performance.now();
  try {
    for await (const event of events(body, controller.signal)) {
      if (!node.wait && event.choices[0]?.urial) node.wait = (performance.now() - asked) / 1000;
      for (const choice of event.choices) take(node, choice);
      flushSoon(node);
    }
    node.state = "done";
    say(`${node.model} has answered.`);
  } catch (error) {
    if (!(error instanceof Told)) { node.error = "The page could not read what the server sent."; throw error; }
    node.state = error.kind === "stopped" ? "stopped" : "failed";
    node.error = error.kind === "stopped" ? "" : error.message;
    node.tooLong = error.kind === "long";
    say(error.message);
    if (error.kind === "key") openKey();
    if (error.kind === "lost") lost();
  } finally {
    running.delete(node.id);
    if (node.state === "writing") node.state = "failed";
    draw();
    keep(talk);
  }
}

// A chunk of the stream.
function take(node, choice) {
  node.text += choice.delta?.content || "";
  const own = choice.urial || {};
  for (const token of own.tokens || []) {
    node.tops[node.tokens.length] = token.top;
    const told = [token.id, token.text, token.bytes, token.logprob, token.rank, token.entropy];
    node.tokens.push(node.guided ? [...told, token.base_top] : told);
  }
  if (choice.finish_reason) {
    Object.assign(node, {
      finish: own.finish_reason, endToken: own.end_token, promptTokens: own.prompt_tokens - node.prefilled,
      cachedTokens: own.cached_tokens, written: own.completion_tokens, speed: own.tokens_per_second,
    });
  }
}

let flushing = new Set();

function flushSoon(node) {
  if (!flushing.size) requestAnimationFrame(() => { const nodes = flushing; flushing = new Set(); nodes.forEach(flush); });
  flushing.add(node);
}

// --- asking once more ---------------------------------------------------------------------------

const questionOfAnswer = (talk, node) => talk.nodes.get(node.parent);

// The same question to the same model, under its prompt or another.
function again(talk, node, prompt = node.prompt, dropped = node.dropped) {
  const lane = laneNamed(node.model);
  if (lane) answer(talk, questionOfAnswer(talk, node), lane, prompt, { dropped });
}

// Go on behind the first `count` tokens, with another token there if one is given.
function goOn(talk, node, count, token = null) {
  const tokens = node.tokens.slice(0, count);
  const ended = Boolean(token && token.ends);
  if (token) tokens.push([token.id, token.text, ended ? [] : bytesOf(token.text), token.logprob, token.rank ?? null, null]);
  const lead = /^\s/.test(node.text) ? "" : null; // a frame's answers begin with their first letter
  const written = textOfBytes(tokens.map((t) => t[2]));
  const begun = { tokens, ended, text: lead === null ? written.trimStart() : written, from: { answer: node.id, position: count, text: token ? token.text : "" } };
  answer(talk, questionOfAnswer(talk, node), laneNamed(node.model), node.prompt, { begun, dropped: node.dropped });
}

// The bytes of a token from how the server writes it.
function bytesOf(text) {
  if (/^bytes:(\\x[0-9a-f]{2})+$/.test(text)) return text.slice(6).split("\\x").slice(1).map((b) => parseInt(b, 16));
  return [...new TextEncoder().encode(text)];
}

// Whether what the server has now is what wrote this answer, so that its ids mean the same.
function sameModel(node) {
  const lane = laneNamed(node.model);
  return Boolean(lane && lane.fingerprint === node.fingerprint && lane.prompts.some((p) => p.name === node.prompt));
}

const canGoOn = (node) => sameModel(node) && node.tokens.length > 0 && (node.state !== "done" || node.finish === "length");

// --- keeping it as a run -------------------------------------------------------------------------

async function saveRun(talk, model) {
  const turns = talk.turns().map(({ question }) => ({ question, node: talk.columns(question).find((c) => c.model === model)?.shown }));
  const gap = turns.findIndex(({ node }) => !node || !node.text || node.state !== "done" || !ENDS.includes(node.finish));
  const whole = gap < 0 ? turns : turns.slice(0, gap);
  if (!whole.length) return notice(`${model} has no complete answer here.`);
  const prompts = new Set(whole.map(({ node }) => node.prompt));
  if (prompts.size > 1) return notice(`The answers shown come from ${prompts.size} prompts, and a run has one. Show answers of one prompt, then save.`);
  const last = whole.at(-1).node;
  const sound = (node) => sameModel(node) ? node.tokens.map((t) => t[0]) : [];
  try {
    const said = await ask("/api/save", {
      model: `${model}:${last.prompt}`, sampling: last.sampling,
      turns: whole.map(({ question, node }) => ({
        query: question.text, answer: node.text, answer_ids: sound(node), finish_reason: node.finish, prompt_tokens: node.promptTokens,
        cached_tokens: Math.min(node.cachedTokens, node.promptTokens), completion_tokens: node.written,
      })),
    });
    return notice(`Saved as the run ${said.run}: ${plural(said.turns, "turn")}. \u201curial-local show\u201d reads it.`);
  } catch (error) { return fail(error); }
}

// Tell of an error that nothing else shows.
function fail(error) {
  if (!(error instanceof Told)) throw error;
  if (error.kind === "key") openKey();
  else if (error.kind === "lost") lost();
  else if (error.kind !== "stopped") notice(error.message);
}
