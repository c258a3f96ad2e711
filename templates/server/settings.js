// What the reader has chosen. Kept in this browser; an empty field means what the prompt recommends.

const SETTINGS = "urial-settings";
const NUMBERS = { // name: [least, most, step, label, help]
  temperature: [0, 10, 0.1, "Temperature", "0 always takes the most probable token."],
  top_p: [0, 1, 0.05, "Top-p", "Draw from the most probable tokens that make up this share."],
  max_tokens: [1, 100000, 1, "Longest answer, in tokens", ""],
  seed: [0, 2147483647, 1, "Seed", "The same seed gives the same answer; an empty one gives a new answer."],
};
const VIEWS = { text: "Text", tokens: "Tokens" };
const COLOURS = { probability: "Probability", rank: "Rank", entropy: "Entropy", guide: "Who wrote it", none: "Borders only" };

let info = null; // what the server has, once it said so
const settings = settingsOf(parsed(remembered("localStorage", SETTINGS) || "null"));

function settingsOf(value) {
  const given = isObject(value) ? value : {};
  const found = { mode: textOr(given.mode, ""), prompts: new Map(), stop: "", view: given.view === "tokens" ? "tokens" : "text", colour: isText(given.colour) && Object.hasOwn(COLOURS, given.colour) ? given.colour : "probability" };
  for (const pair of listOf(given.prompts, 64)) if (Array.isArray(pair) && isText(pair[0], 400) && isText(pair[1], 400)) found.prompts.set(pair[0], pair[1]);
  for (const [name, [least, most]] of Object.entries(NUMBERS)) {
    const number = numberOr(given[name], null);
    found[name] = number !== null && number >= least && number <= most ? number : null;
  }
  found.stop = textOr(given.stop, "", 4096);
  return found;
}

function choose(changes) {
  Object.assign(settings, changes);
  remember("localStorage", SETTINGS, JSON.stringify({ ...settings, prompts: [...settings.prompts] }));
}

const lanes = () => (info ? info.models : []);
const laneNamed = (name) => lanes().find((lane) => lane.name === name) || null;
const otherLane = (name) => (info && info.pair ? laneNamed(name === info.pair.base ? info.pair.aligned : info.pair.base) : null);
const roleOf = (name) => (!info || !info.pair ? "" : name === info.pair.base ? "base" : name === info.pair.aligned ? "aligned" : "");
const labelled = (name) => (roleOf(name) && !name.includes(roleOf(name)) ? `${name} (${roleOf(name)})` : name);
const BOTH = "\u0000both"; // no model's name

// The models that answer the next question.
function asked() {
  if (settings.mode === BOTH && info.pair) return [laneNamed(info.pair.base), laneNamed(info.pair.aligned)];
  return [laneNamed(settings.mode) || lanes()[0]];
}

function promptOf(lane) {
  const name = settings.prompts.get(lane.name);
  return lane.prompts.some((p) => p.name === name) ? name : lane.prompt;
}

function choosePrompt(lane, name) {
  choose({ prompts: new Map(settings.prompts).set(lane.name, name) });
}

const stops = () => settings.stop.split("\n").filter(Boolean).slice(0, 16);

// The fields of a request. There is always a seed, so that it is known afterwards.
function sampling() {
  const found = { seed: settings.seed === null ? crypto.getRandomValues(new Uint32Array(1))[0] % 2147483648 : settings.seed };
  for (const name of ["temperature", "top_p", "max_tokens"]) if (settings[name] !== null) found[name] = settings[name];
  if (stops().length) found.stop = stops();
  return found;
}

const shots = (prompt) => `${prompt.name}${prompt.shots ? ` · ${plural(prompt.shots, "example")}` : ""}`;

function select(entries, chosen, pick, more) {
  const element = make("select", { onchange: () => pick(element.value), ...more },
    entries.map(([value, label]) => make("option", { value, selected: value === chosen }, label)));
  return element;
}

const guideOf = (guide) => `${guide.model ? `${guide.model.title}, ` : ""}rule ${guide.rule}`;

const promptPicker = (lane, more) => select(lane.prompts.map((p) => [p.name, shots(p)]), promptOf(lane), (name) => { choosePrompt(lane, name); draw(); }, more);

function openSettings() {
  const field = (label, help, input) => make("label", { class: "field" }, make("span", {}, label), input, help ? make("small", { class: "soft" }, help) : null);
  const prompts = lanes().map((lane) => {
    const said = make("small", { class: "soft" });
    const describe = () => { said.textContent = lane.prompts.find((p) => p.name === promptOf(lane))?.description || ""; };
    const picker = promptPicker(lane, { id: `set-prompt-${lane.name}` });
    picker.addEventListener("change", describe);
    describe();
    return make("label", { class: "field" }, make("span", {}, `Prompt of ${labelled(lane.name)}`), picker, said);
  });
  const numbers = Object.entries(NUMBERS).map(([name, [least, most, step, label, help]]) => {
    const input = make("input", { type: "number", id: `set-${name}`, min: least, max: most, step: name === "seed" || name === "max_tokens" ? 1 : "any", inputmode: "decimal", placeholder: name === "seed" ? "drawn anew" : "the prompt's own", value: settings[name] });
    const wrong = make("small", { class: "wrong", role: "alert" });
    input.addEventListener("input", () => {
      const value = input.value === "" ? null : Number(input.value);
      const sound = value === null ? !input.validity.badInput : value >= least && value <= most && (step !== 1 || Number.isInteger(value));
      wrong.textContent = sound ? "" : `${step === 1 ? "A whole number" : "A number"} from ${thousands(least)} to ${thousands(most)}.`;
      if (sound) choose({ [name]: value });
    });
    return make("div", {}, field(label, help, input), wrong);
  });
  const stop = make("textarea", { id: "set-stop", rows: 2, spellcheck: "false", oninput: () => choose({ stop: stop.value.slice(0, 4096) }) }, settings.stop);
  openDialog("settings", "Settings", prompts, make("div", { class: "numbers" }, numbers),
    field("Stop texts", "One per line: an answer ends where one of them would begin. The prompt's own stop texts apply as well.", stop),
    info.key ? button("Change the key", () => { byId("settings").close(); openKey(); }) : null, about());
}

function about() {
  const rows = lanes().map((lane) => [lane.name, [`${lane.title}; context of ${plural(lane.ctx_size, "token")}, ${plural(lane.parallel, "answer")} at a time`, lane.remark ? `. ${lane.remark}` : "", lane.guide ? `. Its guide: ${guideOf(lane.guide)}` : ""]]);
  rows.push(["Server", `urial-local ${info.version}, llama-cpp-python ${info.llama_cpp_python}`]);
  if (info.pair && !info.pair.comparable) rows.push(["Pair", `The two models cannot be compared by token. ${info.pair.difference}`]);
  rows.push(["Kept", "Conversations are in this browser only; the server keeps none unless you save one as a run."]);
  return make("details", { class: "about" }, make("summary", {}, "About this server"), make("dl", {}, rows.map(([name, said]) => [make("dt", {}, name), make("dd", {}, said)])));
}

function openKey(then = () => {}) {
  if (byId("ask-key")) return;
  const input = make("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false" });
  const take = () => { useKey(input.value); byId("ask-key").close(); start().then(then); };
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
  openDialog("ask-key", "The server's key",
    make("p", {}, key ? "The server refused this key. Check what it was started with: URIAL_API_KEY, or the file of --api-key-file." : "This server asks for a key: the one in URIAL_API_KEY, or in the file of --api-key-file, when it was started."),
    make("label", { class: "field" }, make("span", {}, "Key"), input, make("small", { class: "soft" }, "Kept in this tab and forgotten when you close it.")),
    button("Use it", take, { class: "main" }));
  input.focus();
}
