// Conversations are kept in this browser, in IndexedDB: their heads for the list, their bodies when
// they are opened. Where the browser keeps nothing, all goes on in memory, and that is said.

const store = {
  heads: new Map(), // id → {id, title, created, changed}
  open: new Map(), // id → Talk, those that were looked at
  database: null,
  said: "", // why nothing is kept
};

const promised = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const finished = (transaction) => new Promise((resolve, reject) => {
  transaction.oncomplete = () => resolve();
  transaction.onabort = transaction.onerror = () => reject(transaction.error);
});

async function openStore() {
  try {
    const request = indexedDB.open("urial-local", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("heads", { keyPath: "id" });
      request.result.createObjectStore("bodies", { keyPath: "id" });
    };
    store.database = await promised(request);
    store.database.onversionchange = () => store.database.close();
    const heads = await promised(store.database.transaction("heads").objectStore("heads").getAll());
    for (const head of heads.slice(0, 2 * MOST.conversations)) if (isId(head.id)) store.heads.set(head.id, headOf(head));
  } catch {
    store.database = null;
    store.said = "This browser keeps nothing for this page: conversations last until it is closed. Export what you need.";
  }
}

const headOf = (value) => ({ id: value.id, title: textOr(value.title, "", 200), created: numberOr(value.created, 0), changed: numberOr(value.changed, 0) });

const listed = () => [...store.heads.values()].sort((a, b) => b.changed - a.changed);

// A conversation from the store; null where it is not there any more, or makes no sense.
async function loadTalk(id) {
  if (store.open.has(id)) return store.open.get(id);
  if (!store.database) return null;
  try {
    const body = await promised(store.database.transaction("bodies").objectStore("bodies").get(id));
    const talk = talkOf(body);
    store.open.set(id, talk);
    return talk;
  } catch { return null; }
}

// Keep it as it is now. Nodes that another tab has added stay: none is ever taken away.
async function keep(talk) {
  if (talk.gone) return undefined; // deleted while it was answered
  const known = store.heads.has(talk.id);
  talk.changed = Date.now();
  store.open.set(talk.id, talk);
  if (!known && store.heads.size >= MOST.conversations) {
    return kept(`${MOST.conversations} conversations are kept here, and more are not: this one lasts until the page is closed. Delete some, or export them first.`);
  }
  store.heads.set(talk.id, headOf(talk));
  if (!store.database) return kept(store.said);
  for (const whole of [true, false]) {
    try {
      await write(talkAsJson(talk, whole));
      return kept(whole ? "" : "The browser's store is nearly full: the tokens of this conversation's answers were left out.");
    } catch { /* a browser's quota */ }
  }
  return kept("The browser's store is full: what is new in this conversation lasts until the page is closed. Delete some, or export them first.");
}

function kept(said) {
  store.said = said;
  drawSide();
}

async function write(json) {
  const transaction = store.database.transaction(["heads", "bodies"], "readwrite", { durability: "relaxed" });
  const done = finished(transaction);
  done.catch(() => {}); // told by the requests, too
  const bodies = transaction.objectStore("bodies");
  const before = await promised(bodies.get(json.id));
  if (before && Array.isArray(before.nodes)) {
    const mine = new Set(json.nodes.map((node) => node.id));
    json.nodes = [...json.nodes, ...before.nodes.filter((node) => !mine.has(node.id))];
  }
  bodies.put(json);
  transaction.objectStore("heads").put(headOf(json));
  await done;
}

async function forget(id) {
  store.heads.delete(id);
  store.open.delete(id);
  if (!store.database) return;
  try {
    const transaction = store.database.transaction(["heads", "bodies"], "readwrite");
    transaction.objectStore("heads").delete(id);
    transaction.objectStore("bodies").delete(id);
    await finished(transaction);
  } catch { notice("The browser did not let the page delete it."); }
}

// --- files ----------------------------------------------------------------------------------------

async function exported(ids) {
  const conversations = [];
  for (const id of ids) {
    const talk = await loadTalk(id);
    if (talk) conversations.push(talkAsJson(talk));
  }
  return JSON.stringify({ format: FORMAT, version: 1, conversations });
}

function offer(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function exportTalks(ids) {
  if (!ids.length) { notice("There is nothing to export yet."); return; }
  const day = new Date().toISOString().slice(0, 10);
  offer(`conversations-${day}.json`, await exported(ids));
}

// Put the conversations of a file beside those that are here. One that is here already gets a new id.
async function importTalks(file) {
  try {
    need(file.size <= MOST.file, "The file is larger than 64 MB.");
    const talks = conversationsOf(await file.text());
    need(store.heads.size + talks.length <= MOST.conversations, `${MOST.conversations} conversations can be kept here; delete some first.`);
    for (const talk of talks) {
      if (store.heads.has(talk.id)) talk.id = newId();
      await keep(talk);
    }
    notice(`${plural(talks.length, "conversation")} imported.`);
    if (talks.length) await showTalk(talks[0].id);
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    notice(`Nothing was imported. ${error.message}`);
  }
}
