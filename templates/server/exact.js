// The exact prompt: what the model read before an answer, token by token, and what of it was cached.

async function showPrompt(talk, node) {
  const body = make("div", {}, make("p", { class: "soft" }, "Asking …"));
  openDialog("exact", "The exact prompt", body);
  try {
    const messages = talk.messages(questionOfAnswer(talk, node), node.model, node.dropped);
    const said = await ask("/api/render", { model: `${node.model}:${node.prompt}`, messages });
    body.replaceChildren(...promptView(node, said));
  } catch (error) {
    if (!(error instanceof Told)) throw error;
    body.replaceChildren(make("p", { class: "wrong" }, error.message));
  }
}

function promptView(node, said) {
  const cached = Math.min(node.cachedTokens, said.tokens.length);
  const words = [`${plural(said.tokens.length, "token")} of ${labelled(node.model)} under the prompt ${node.prompt}, in a context of ${thousands(said.ctx_size)}.`,
    cached ? ` The first ${thousands(cached)} were in the cache from earlier, and were not read again; they are shown on grey.` : " None was in the cache.",
    ` ${thousands(said.cached_tokens)} would be found there now.`];
  if (node.prefilled) words.push(` The answer began with ${plural(node.prefilled, "given token")}.`);
  const text = make("div", { class: "exact-text borders", tabindex: "0" }, said.tokens.map((token, i) => exactToken(said, token, i, i < cached)));
  const borders = make("input", { type: "checkbox", checked: true, onchange: () => text.classList.toggle("borders", borders.checked) });
  return [make("p", {}, words), make("div", { class: "bar-row" }, make("label", {}, borders, " Token borders"), button("Copy the text", () => copyText(said.text))), text];
}

// A control token has a name and no text; a character may be spread over several tokens.
function exactToken(said, token, i, cached) {
  const end = i + 1 < said.tokens.length ? said.tokens[i + 1].offset : said.text.length;
  const inner = Array.from(said.text).length === said.text.length ? said.text.slice(token.offset, end) : sliced(said, token.offset, end);
  const special = inner === "" && !token.text.startsWith("bytes:");
  const shown = special ? token.text : inner.replaceAll("\n", "⏎\n");
  return make("span", { class: `t${cached ? " cached" : ""}${special ? " special" : ""}`, title: `${thousands(i + 1)}: id ${token.id}` }, shown);
}

// Offsets count characters, of which some are two places in a JavaScript text.
function sliced(said, from, to) {
  said.characters ||= Array.from(said.text);
  return said.characters.slice(from, to).join("");
}
