// The list of conversations, and what is above and below the one that is shown.

function drawSide() {
  const heads = listed();
  byId("list").replaceChildren(...heads.map((head) => make("li", { class: head.id === talk.id ? "here" : null },
    button(head.title || "(no question)", () => showTalk(head.id), { class: "plain name", "aria-current": head.id === talk.id ? "true" : null, title: head.title }),
    menu(make("span", { "aria-label": `What to do with ${head.title}` }, "⋯"), talkActs(head), { class: "menu small-menu" }))));
  byId("no-talks").hidden = heads.length > 0;
  byId("store-said").textContent = store.said;
  byId("store-said").hidden = !store.said;
}

function talkActs(head) {
  return [
    ["Rename", () => rename(head)],
    ["Export", () => exportTalks([head.id])],
    ["Delete", () => remove(head)],
  ];
}

function rename(head) {
  const input = make("input", { type: "text", id: "new-name", maxlength: 200, value: head.title, "aria-label": "Name" });
  const dialog = openDialog("rename", "Rename", input, button("Rename", () => take(), { class: "main" }));
  const take = async () => {
    const one = head.id === talk.id ? talk : await loadTalk(head.id);
    if (one && input.value.trim()) {
      one.title = input.value.trim();
      one.named = true;
      await keep(one);
    }
    dialog.close();
    draw();
  };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
  input.select();
}

async function remove(head) {
  const gone = await loadTalk(head.id);
  if (gone) { gone.gone = true; stopAll(gone); }
  await forget(head.id);
  if (head.id === talk.id) newTalk();
  drawSide();
  notice(`\u201c${head.title}\u201d is deleted.`, ...(gone ? [button("Undo", async () => { notice(""); gone.gone = false; await keep(gone); showTalk(gone.id); })] : []));
}

// --- which conversation is shown ---------------------------------------------------------------------

function newTalk() {
  talk = new Talk();
  editing = null;
  spread.clear();
  closeSide();
  draw();
  byId("ask").focus();
}

async function showTalk(id) {
  const found = await loadTalk(id);
  closeSide();
  if (!found) { notice("This conversation is no longer here, or cannot be read."); return; }
  talk = found;
  editing = null;
  spread.clear();
  draw();
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
}

function closeSide() {
  document.body.classList.remove("side-open");
  byId("open-side").setAttribute("aria-expanded", "false");
}

function openSide() {
  document.body.classList.add("side-open");
  byId("open-side").setAttribute("aria-expanded", "true");
  byId("new").focus();
}

// --- above -----------------------------------------------------------------------------------------------

function drawTop() {
  byId("title").textContent = talk.title || "New conversation";
  document.title = talk.title ? `${talk.title} · urial-local` : "urial-local";
  byId("choices").hidden = !info;
  if (!info) return;
  const modes = lanes().map((lane) => [lane.name, labelled(lane.name)]);
  if (info.pair) modes.push([BOTH, "Both, side by side"]);
  const chosen = settings.mode === BOTH && info.pair ? BOTH : asked()[0].name;
  const view = make("span", { class: "segmented", role: "group", "aria-label": "Show answers as" },
    Object.entries(VIEWS).map(([name, words]) => button(words, () => { choose({ view: name }); draw(); }, { id: `view-${name}`, "aria-pressed": String(settings.view === name) })));
  const models = lanes().length > 1 ? select(modes, chosen, (mode) => { choose({ mode }); draw(); }, { id: "mode", "aria-label": "Model" }) : make("b", { class: "one-model" }, lanes()[0].name);
  byId("choices").replaceChildren(models, ...asked().slice(0, 1).map((lane) => promptPicker(lane, { id: "prompt", "aria-label": `Prompt of ${lane.name}`, title: `Prompt of ${lane.name}` })), view);
}

// --- below -----------------------------------------------------------------------------------------------

function drawComposer(turns) {
  const writing = runningIn(talk).length > 0;
  byId("send").hidden = writing;
  byId("stop").hidden = !writing;
  byId("send").disabled = !info;
  const last = turns.length ? talk.columns(turns.at(-1).question).map((c) => c.shown) : [];
  const used = last.filter((a) => a.promptTokens && laneNamed(a.model));
  byId("used").textContent = used.map((a) => `${used.length > 1 ? `${a.model} ` : ""}${thousands(a.promptTokens + a.tokens.length)} of ${thousands(laneNamed(a.model).ctx_size)}`).join(", ") + (used.length ? " tokens of context" : "");
  byId("ask").placeholder = turns.length ? "Ask a follow-up …" : "Ask something …";
}

const EXAMPLES = ["Explain to a child why the sky is blue.", "Write a short, kind e-mail that moves a meeting to Friday.", "How can I learn to cook within a month?"];
const DEMO_EXAMPLES = ["How do I make soup?", "Where can I find a fox?", "What is the capital of Norway?"];

function emptyState() {
  const lane = asked()[0], prompt = lane.prompts.find((p) => p.name === promptOf(lane));
  const several = asked().length > 1;
  const examples = lanes().every((l) => l.name.startsWith("demo")) ? DEMO_EXAMPLES : EXAMPLES;
  const base = roleOf(lane.name) !== "aligned";
  const taught = prompt.shots ? `The prompt ${prompt.name} shows it ${plural(prompt.shots, "answered question")}, and so it answers yours.` : `The prompt ${prompt.name} shows it no examples.`;
  return make("div", { class: "empty" },
    make("h2", {}, several ? "Ask both models" : `Ask ${lane.name}`),
    make("p", {}, base ? `${lane.name} is a base model: it was never trained to chat, only to continue text. ${taught}` : `${lane.name} was aligned: it was trained to answer.`,
      several ? ` ${asked()[1].name} was trained to answer. They write side by side.` : info.pair && base ? ` ${otherLane(lane.name).name}, its aligned counterpart, can answer beside it.` : ""),
    make("div", { class: "examples" }, examples.map((text) => button(text, () => { askAll(talk, text, null, []); byId("ask").focus(); }))),
    info.pair && !several ? make("p", {}, button("Have both answer, side by side", () => { choose({ mode: BOTH }); draw(); byId("ask").focus(); }, { class: "plain link" })) : null);
}
