// The conversation: questions, the answers of one or two models beside each other, their branches.

let talk = new Talk(); // the one that is shown
const spread = new Set(); // question and model whose answers stand beside each other
let editing = null; // {id, text} of the question that is being written anew

// The whole page from what is known. Who had the focus has it again.
function draw() {
  const held = document.activeElement?.id, { selectionStart, selectionEnd } = byId("edit") || {}, scroll = byId("scroll"), low = isLow();
  const likely = byId("likely");
  drawTop();
  drawLegend();
  const turns = talk.turns();
  byId("turns").replaceChildren(...(turns.length ? turns.map(turnElement) : info ? [emptyState()] : []));
  byId("turns").classList.toggle("wide", Boolean(byId("turns").querySelector(".columns.several")));
  drawComposer(turns);
  drawSide();
  if (low && turns.length) scroll.scrollTop = scroll.scrollHeight;
  restoreLikely(likely);
  if (held && document.activeElement?.id !== held) byId(held)?.focus({ preventScroll: true });
  if (held === "edit") byId("edit")?.setSelectionRange(selectionStart, selectionEnd);
  if (settings.view === "tokens" && settings.colour === "rank" && info) shownAnswers().forEach((node) => askRanks(talk, node));
}

const isLow = () => { const s = byId("scroll"); return s.scrollHeight - s.scrollTop - s.clientHeight < 80; };

const shownAnswers = () => talk.turns().flatMap(({ question }) => talk.columns(question).flatMap((c) => (spread.has(`${question.id} ${c.model}`) ? c.answers : [c.shown])));

function turnElement({ question, siblings }) {
  const columns = talk.columns(question);
  // Base before aligned, whoever was asked first.
  columns.sort((a, b) => (roleOf(a.model) === "aligned") - (roleOf(b.model) === "aligned"));
  const answers = columns.flatMap((column) => (spread.has(`${question.id} ${column.model}`) ? column.answers : [column.shown]).map((node) => answerElement(question, column, node)));
  return make("section", { class: "turn", "aria-label": "A question and its answers" }, questionElement(question, siblings),
    make("div", { class: `columns${answers.length > 1 ? " several" : ""}` }, answers));
}

function branchNav(siblings, shown, what) {
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(shown);
  const step = (by, sign, words) => button(sign, () => turnTo(siblings, shown, by, `${by < 0 ? "before" : "after"}-${what}`), { class: "plain", id: `${by < 0 ? "before" : "after"}-${what}`, disabled: !siblings[at + by], "aria-label": words });
  return make("span", { class: "branches" }, step(-1, "‹", "Previous branch"), make("span", {}, `${at + 1}/${siblings.length}`), step(1, "›", "Next branch"));
}

function turnTo(siblings, shown, by, focus) {
  if (!talk.turnTo(siblings, shown, by)) return;
  draw();
  byId(focus)?.focus({ preventScroll: true });
  if (document.activeElement === document.body) byId(focus.replace(/^\w+/, by < 0 ? "after" : "before"))?.focus();
  keep(talk);
}

function questionElement(question, siblings) {
  const mine = editing && editing.id === question.id;
  const slot = `q-${question.parent || "first"}`;
  const article = make("article", { class: "question", "aria-label": "Your question", tabindex: "-1", id: slot }, mine ? editor(question) : make("div", { class: "text", dir: "auto" }, question.text),
    mine ? null : make("div", { class: "acts" }, branchNav(siblings, question, slot), button("Edit", () => { editing = { id: question.id, text: question.text }; draw(); byId("edit").focus(); }, { class: "plain", id: `edit-${question.id}` }), button("Copy", () => copyText(question.text), { class: "plain" })));
  withArrows(article, siblings, question);
  return article;
}

// Left and right go to other branches while something in here has the focus.
function withArrows(article, siblings, shown) {
  article.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || /^(TEXTAREA|INPUT|SELECT|PRE)$/.test(event.target.tagName)) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || siblings.length < 2) return;
    event.preventDefault();
    turnTo(siblings, shown, by, article.id);
  });
}

function editor(question) {
  const area = make("textarea", { id: "edit", rows: Math.min(12, 1 + editing.text.split("\n").length), "aria-label": "The question, edited", oninput: () => { editing.text = area.value; } });
  area.value = editing.text;
  const done = () => {
    const text = area.value;
    if (!text.trim() || !info) return;
    editing = null;
    askAll(talk, text, question.parent, question.after);
  };
  area.addEventListener("keydown", (event) => { if (isEnter(event)) { event.preventDefault(); done(); } });
  return make("div", { class: "editor" }, area, make("div", { class: "acts" }, button("Ask", done, { class: "main" }), button("Cancel", cancelEdit)));
}

function cancelEdit() {
  if (!editing) return false;
  const { id } = editing;
  editing = null;
  draw();
  byId(`edit-${id}`)?.focus();
  return true;
}

const isEnter = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

// --- answers ----------------------------------------------------------------------------------------

function answerElement(question, column, node) {
  const spot = `a-${question.id}-${node.model}-${spread.has(`${question.id} ${node.model}`) ? node.id : ""}`;
  const article = make("article", { class: `answer ${node.state}`, tabindex: "0", id: spot, "aria-label": `Answer of ${labelled(node.model)}`, "data-answer": node.id },
    make("header", {}, make("b", {}, labelled(node.model)), make("span", { class: "soft" }, node.prompt), branchNav(column.answers, node, spot)),
    whence(node), node.dropped ? make("p", { class: "soft small" }, `The first ${node.dropped === 1 ? "turn of the conversation was" : `${node.dropped} turns of the conversation were`} left out.`) : null,
    make("div", { class: "body", dir: "auto" }, bodyOf(node)),
    node.error ? failure(question, node) : null,
    node.state === "writing" || (node.state === "failed" && node.text === "") ? null : footer(question, column, node));
  withArrows(article, column.answers, node);
  return article;
}

function whence(node) {
  if (!node.from) return null;
  const origin = talk.nodes.get(node.from.answer);
  const number = origin ? talk.answers(questionOfAnswer(talk, node)).filter((a) => a.model === node.model).indexOf(origin) + 1 : 0;
  const words = node.from.text ? [` at token ${node.from.position + 1}, with `, make("span", { class: "word" }, visible(node.from.text))] : [` from token ${node.from.position} on`];
  return make("p", { class: "soft small whence" }, "Continues", number ? ` from branch ${number}` : "", words);
}

function bodyOf(node) {
  const empty = node.text === "" && !node.tokens.length;
  if (empty && node.state === "writing") return make("p", { class: "soft waits" }, "Reading the prompt …");
  if (settings.view === "tokens" && node.tokens.length) return tokensView(talk, node);
  if (node.state === "writing") return make("div", { class: "plain-text" }, node.text);
  if (node.text === "") return node.error ? null : make("p", { class: "soft" }, "(an empty answer)");
  return markdown(node.text);
}

// What has come since the last frame, at the end of what is there.
function flush(node) {
  if (node.state !== "writing") return;
  const body = document.querySelector(`[data-answer="${node.id}"] .body`);
  if (!body) return;
  const low = isLow(), view = body.firstElementChild;
  const tokens = settings.view === "tokens";
  if (!view || view.matches(".waits") || view.matches(".tokens") !== (tokens && node.tokens.length > 0)) body.replaceChildren(...[bodyOf(node)].filter(Boolean));
  else if (tokens) for (let i = view.childElementCount; i < node.tokens.length; i++) view.append(tokenSpan(node, i));
  else view.append(node.text.slice(view.textContent.length));
  if (low) byId("scroll").scrollTop = byId("scroll").scrollHeight;
}

function failure(question, node) {
  const turns = talk.path(question).length - 1;
  return make("div", { class: "failure", role: "alert" }, make("p", {}, node.error), make("div", { class: "acts" },
    button("Try again", () => again(talk, node), { class: "main" }),
    node.tooLong && node.dropped < turns ? button("Leave out the earliest turn, and ask again", () => again(talk, node, node.prompt, node.dropped + 1)) : null));
}

const ENDED = {
  eos: "ended by itself", frame: "ended where the next question would begin", stop: "ended at a stop text", form: "its form is filled in", loop: "stopped: the guide repeated the same word",
  length: "cut off at the longest length allowed", context: "cut off: the context is full",
};

function facts(node) {
  const found = [node.state === "stopped" ? "stopped by you" : ENDED[node.finish] || ""];
  if (node.written) found.push(plural(node.written, "token"));
  if (node.speed) found.push(`${node.speed < 10 ? node.speed.toFixed(1) : thousands(Math.round(node.speed))} tokens/s`);
  if (node.promptTokens) found.push(`prompt of ${thousands(node.promptTokens)}, ${node.cachedTokens ? `${thousands(Math.min(node.cachedTokens, node.promptTokens))} from the cache` : "none from the cache"}`);
  const chosen = Object.entries(node.sampling).map(([name, value]) => `${name} ${value}`).join(", ");
  return make("p", { class: "facts soft small", title: `${chosen}${node.wait ? `; first token after ${node.wait.toFixed(2)} s` : ""}` }, found.filter(Boolean).join(" · "));
}

function footer(question, column, node) {
  const lane = laneNamed(node.model), other = info ? otherLane(node.model) : null;
  const key = `${question.id} ${node.model}`;
  const same = column.answers.findIndex((a) => a !== node && a.text === node.text && a.prompt === node.prompt && !node.from && a.state === "done");
  const entries = [];
  if (lane) for (const prompt of lane.prompts) if (prompt.name !== node.prompt) entries.push([shots(prompt), () => again(talk, node, prompt.name)]);
  if (entries.length) entries.unshift("Ask again under the prompt");
  const more = [
    column.answers.length > 1 ? [spread.has(key) ? "One branch at a time" : "All branches side by side", () => { if (!spread.delete(key)) spread.add(key); draw(); }] : null,
    other && !talk.columns(question).some((c) => c.model === other.name) ? [`Ask ${labelled(other.name)}, too`, () => answer(talk, question, other, promptOf(other))] : null,
    sameModel(node) ? ["The exact prompt", () => showPrompt(talk, node)] : null,
    lane && info.saves ? [`Save what ${node.model} said as a run`, () => saveRun(talk, node.model)] : null,
    ...entries,
  ].filter(Boolean);
  return make("footer", {},
    settings.view === "tokens" ? make("p", { class: "small shares" }, shares(node)) : null,
    facts(node),
    same >= 0 && node.state === "done" ? make("p", { class: "soft small" }, `The same words as branch ${same + 1}: a higher temperature, in the settings, draws others.`) : null,
    make("div", { class: "acts" },
      canGoOn(node) ? button("Continue", () => goOn(talk, node, node.tokens.length), { class: "plain", title: "Continue the answer from its end" }) : null,
      button("Copy", () => copyText(node.text), { class: "plain" }),
      lane ? button("Again", () => again(talk, node), { class: "plain", id: `again-${node.model}-${question.id}`, title: "Ask for another answer" }) : null,
      more.length ? menu("More", more) : null));
}
