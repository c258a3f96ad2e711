// A conversation is a tree. Questions follow on each other; each has answers, by model, and of each
// model several. A question remembers which answers it followed (`after`), so that no answer is shown
// under a past that it did not have.

class Talk {
  constructor(id) {
    this.id = id || newId();
    this.title = "";
    this.named = false; // by the reader
    this.created = this.changed = Date.now();
    this.nodes = new Map();
    this.chosen = new Map(); // of questions, by the one before: which is shown
    this.picks = new Map(); // of answers, by question and model: which is shown
  }

  questions(parent) { return [...this.nodes.values()].filter((n) => n.kind === "question" && n.parent === parent); }

  answers(question) { return [...this.nodes.values()].filter((n) => n.kind === "answer" && n.parent === question.id); }

  // The models that answered a question, each with its answers and the one that is shown.
  columns(question) {
    const found = new Map();
    for (const answer of this.answers(question)) {
      if (!found.has(answer.model)) found.set(answer.model, []);
      found.get(answer.model).push(answer);
    }
    return [...found].map(([model, answers]) => ({ model, answers, shown: this.shown(question, model, answers) }));
  }

  shown(question, model, answers) {
    const pick = this.picks.get(`${question.id} ${model}`);
    return answers.find((a) => a.id === pick) || answers.at(-1);
  }

  // The questions that are shown, from the first: each with its siblings.
  turns() {
    const found = [];
    for (let parent = null, shown = []; ;) {
      const siblings = this.questions(parent).filter((q) => this.follows(q, shown));
      if (!siblings.length) return found;
      const question = siblings.find((q) => q.id === this.chosen.get(parent || "")) || siblings.at(-1);
      found.push({ question, siblings });
      parent = question.id;
      shown = this.columns(question).map((c) => c.shown);
    }
  }

  // Whether a question was asked after these answers: of each model that had answered by then.
  follows(question, shown) {
    return shown.every((a) => question.after.includes(a.id) || !question.after.some((id) => this.nodes.get(id)?.model === a.model));
  }

  // The questions up to one, from the first.
  path(question) {
    const found = [];
    for (let q = question; q; q = q.parent ? this.nodes.get(q.parent) : null) found.unshift(q);
    return found;
  }

  // What a model is sent to answer a question: its own earlier answers where it has some, else the
  // other model's. `dropped`: of the earliest turns.
  messages(question, model, dropped = 0) {
    const path = this.path(question), found = [];
    path.forEach((q, i) => {
      if (i >= dropped || i === path.length - 1) found.push({ role: "user", content: q.text });
      if (i === path.length - 1 || i < dropped) return;
      const after = path[i + 1].after.map((id) => this.nodes.get(id)).filter(Boolean);
      const answer = after.find((a) => a.model === model) || after[0];
      found.push({ role: "assistant", content: answer ? answer.text : "" });
    });
    return found;
  }

  ask(text, parent, after) {
    const question = { id: newId(), kind: "question", parent, after, text };
    this.nodes.set(question.id, question);
    this.chosen.set(parent || "", question.id);
    if (!this.title) this.title = titleOf(text);
    return question;
  }

  put(answer) {
    this.nodes.set(answer.id, answer);
    this.picks.set(`${answer.parent} ${answer.model}`, answer.id);
    return answer;
  }

  // Show the sibling so many places further on; false where there is none.
  turnTo(siblings, shown, by) {
    const next = siblings[siblings.indexOf(shown) + by];
    if (!next) return false;
    if (next.kind === "question") this.chosen.set(next.parent || "", next.id);
    else this.picks.set(`${next.parent} ${next.model}`, next.id);
    return true;
  }
}

const titleOf = (text) => {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? line.slice(0, 58).trimEnd() + " …" : line;
};

// --- as JSON --------------------------------------------------------------------------------------

function talkAsJson(talk, whole = true) {
  const nodes = [...talk.nodes.values()].map((node) => {
    if (node.kind === "question") return node;
    const { tops, ...kept } = node; // what else was likely is asked again
    if (kept.state === "writing") kept.state = "stopped";
    if (!whole) kept.tokens = [];
    return kept;
  });
  return { id: talk.id, title: talk.title, named: talk.named, created: talk.created, changed: talk.changed, nodes, chosen: [...talk.chosen], picks: [...talk.picks] };
}
