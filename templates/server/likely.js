// What else was likely at a token, in both models where there are two, and to go on from there.

let likelyAsked = 0; // only the latest is shown
let likelyAt = null; // {id, i} of the token that it is about

function closeLikely(focus = false) {
  const panel = byId("likely");
  likelyAsked++;
  if (!panel) return false;
  const token = document.querySelector(".t.here");
  panel.remove();
  token?.classList.remove("here");
  likelyAt = null;
  if (focus) token?.focus();
  return true;
}

async function showLikely(talk, node, i, token, into = false) {
  closeLikely();
  const mine = likelyAsked;
  token.classList.add("here");
  likelyAt = { id: node.id, i };
  const panel = make("aside", { id: "likely", role: "dialog", "aria-label": "What else was likely here", tabindex: "-1" });
  byId("turns").append(panel);
  fill(panel, talk, node, i, node.tops[i] ? [[node.model, node.prompt, node.tops[i]]] : null, "");
  place(panel, token);
  if (into) panel.focus();
  if (!sameModel(node)) {
    return fill(panel, talk, node, i, [], "The server now has another model or prompt than the one that wrote this answer, so its tokens mean nothing there.");
  }
  const other = info.pair && info.pair.comparable ? otherLane(node.model) : null;
  if (!other && node.tops[i]) return undefined;
  const names = [`${node.model}:${node.prompt}`, ...(other ? [`${other.name}:${promptOf(other)}`] : [])];
  try {
    const messages = talk.messages(questionOfAnswer(talk, node), node.model, node.dropped);
    const said = await ask("/api/top", { messages, models: names, ids: node.tokens.map((t) => t[0]), position: i });
    if (mine !== likelyAsked) return undefined;
    const tops = [[node.model, node.prompt, said.models[names[0]].top, said.models[names[0]].token]];
    if (other) tops.push([other.name, promptOf(other), said.models[names[1]].top, said.models[names[1]].token]);
    fill(panel, talk, node, i, tops, "");
  } catch (error) {
    if (mine !== likelyAsked) return undefined;
    if (!(error instanceof Told)) throw error;
    fill(panel, talk, node, i, node.tops[i] ? [[node.model, node.prompt, node.tops[i]]] : [], error.message);
  }
  place(panel, document.querySelector(".t.here") || token);
  if (into) (panel.querySelector(".alternative") || panel).focus();
  return undefined;
}

// The conversation was drawn anew: what is open stays open where its token is still there.
function restoreLikely(panel) {
  const at = likelyAt, token = at && document.querySelector(`[data-answer="${at.id}"] .t[data-i="${at.i}"]`);
  if (!panel) return;
  if (!token) { likelyAsked++; likelyAt = null; return; }
  token.classList.add("here");
  byId("turns").append(panel);
  place(panel, token, false);
}

function fill(panel, talk, node, i, tops, said) {
  const [id, text, , logprob, rank, entropy] = node.tokens[i];
  const facts = logprob === null ? [] : [`probability ${share(logprob)}`];
  if (wroteIt(node.tokens[i]) === 1) facts.unshift(`written by the guide: the model’s own best token had ${share(Math.log(node.tokens[i][6]))}`);
  if (rank !== null) facts.push(`rank ${thousands(rank)}`);
  if (entropy !== null) facts.push(`entropy ${entropy.toFixed(2)} nats`);
  panel.replaceChildren(
    make("header", {}, make("h3", {}, make("span", { class: "word" }, visible(text))), make("span", { class: "soft small" }, facts.join(" · ")),
      button("✕", () => closeLikely(true), { class: "plain", "aria-label": "Close" })),
    ...(said ? [make("p", { class: "small" }, said)] : []),
    tops === null ? make("p", { class: "soft small" }, "Asking …") : make("div", { class: "both" }, tops.map(([model, prompt, top, token]) => topTable(talk, node, i, id, model, prompt, top, token))),
    ...(tops && tops.length ? [make("p", { class: "soft small" }, `Choose one, and ${node.model} continues from there, in a branch of its own.`)] : []));
}

function topTable(talk, node, i, id, model, prompt, top, token) {
  const rows = top.map((one, n) => alternative(talk, node, i, one, n + 1, one.id === id, model === node.model));
  if (token && !top.some((one) => one.id === id)) rows.push(make("div", { class: "row out" }, make("span", {}, thousands(token.rank)), make("span", { class: "word" }, visible(token.text)), make("span", { class: "number" }, share(token.logprob)), make("span", { class: "soft" }, "written")));
  return make("section", {}, make("h4", {}, labelled(model), make("span", { class: "soft" }, ` ${prompt}`)), make("div", { class: "rows" }, rows));
}

function alternative(talk, node, i, one, rank, written, own) {
  const bar = make("i", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${Math.max(1, 100 * Math.exp(one.logprob))}%`;
  // What another model thinks of a token is not what this one thinks.
  const known = own ? { ...one, rank } : { ...one, logprob: null, rank: null };
  return button([make("span", {}, String(rank)), make("span", { class: "word" }, visible(one.text)), make("span", { class: "number" }, share(one.logprob)), make("span", { class: "soft" }, written ? "written" : one.ends ? "ends it" : ""), bar],
    () => {
      closeLikely();
      goOn(talk, node, i, known);
      document.querySelector(`[data-answer="${[...talk.nodes.keys()].at(-1)}"]`)?.focus({ preventScroll: true });
    },
    { class: `alternative row${written ? " written" : ""}`, title: written ? "Continue from here once more" : one.ends ? "End the answer here" : "Continue from here with this token" });
}

// Below its token, within the page; on a phone at the bottom.
function place(panel, token, seen = true) {
  const area = byId("turns").getBoundingClientRect(), at = token.getClientRects()[0];
  if (!at) return;
  const left = Math.min(Math.max(0, at.left - area.left - 16), area.width - panel.offsetWidth);
  panel.style.left = `${Math.max(0, left)}px`;
  panel.style.top = `${at.bottom - area.top + 8}px`;
  if (!seen) return;
  const scroll = byId("scroll");
  if (getComputedStyle(panel).position === "fixed") scroll.scrollTop += at.top - scroll.getBoundingClientRect().top - 80;
  else panel.scrollIntoView({ block: "nearest" });
}
