// The page begins: what the server has, what the browser kept, and what keys do.

const DRAFT = "urial-draft";
let trying = null; // the next look whether the server is there

async function start() {
  clearTimeout(trying);
  try {
    info = await ask("/api/info");
    notice("");
    draw();
  } catch (error) {
    if (!(error instanceof Told)) throw error;
    if (error.kind === "key") openKey();
    else if (error.kind === "loading") { notice("The model is being loaded …"); trying = setTimeout(start, 700); }
    else if (error.kind === "lost") lost();
    else notice(error.message, button("Try again", start));
  }
}

// The server is gone: say so, and look for it until it is there again.
function lost() {
  clearTimeout(trying);
  if (byId("notice").textContent.indexOf(UNREACHABLE) < 0) notice(UNREACHABLE, button("Try again", start, { id: "retry" }));
  trying = setTimeout(start, 3000);
}

function askNow() {
  const area = byId("ask"), text = area.value;
  if (!text.trim() || !info || runningIn(talk).length) return;
  const turns = talk.turns(), last = turns.at(-1);
  area.value = "";
  remember("sessionStorage", DRAFT, null);
  grow();
  notice("");
  askAll(talk, text, last ? last.question.id : null, last ? talk.columns(last.question).map((c) => c.shown.id) : []);
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
}

// As high as its text, up to a third of the window.
function grow() {
  const area = byId("ask");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, window.innerHeight / 3)}px`;
}

function onKey(event) {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) newTalk();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (closeMenus() || closeLikely(true) || cancelEdit()) return;
    if (document.body.classList.contains("side-open")) { closeSide(); byId("open-side").focus(); } else stopAll(talk);
  }
}

function begin() {
  const area = byId("ask");
  area.value = remembered("sessionStorage", DRAFT) || "";
  grow();
  area.addEventListener("input", () => { grow(); remember("sessionStorage", DRAFT, area.value || null); });
  area.addEventListener("keydown", (event) => { if (isEnter(event)) { event.preventDefault(); askNow(); } });
  byId("send").addEventListener("click", askNow);
  byId("stop").addEventListener("click", () => { stopAll(talk); area.focus(); });
  byId("new").addEventListener("click", newTalk);
  byId("open-side").addEventListener("click", openSide);
  byId("scrim").addEventListener("click", closeSide);
  byId("open-settings").addEventListener("click", () => { if (info) openSettings(); else start(); });
  byId("export").addEventListener("click", () => exportTalks(listed().map((head) => head.id)));
  byId("import").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", async () => {
    const [file] = byId("file").files;
    if (file) await importTalks(file);
    byId("file").value = "";
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const inside = event.target.closest("details.menu");
    for (const open of document.querySelectorAll("details.menu[open]")) if (open !== inside) open.open = false;
    if (byId("likely") && event.target.isConnected && !event.target.closest("#likely, .t")) closeLikely();
  });
  window.addEventListener("beforeunload", (event) => { if (running.size) event.preventDefault(); });
  window.addEventListener("resize", () => closeLikely());
  draw();
  openStore().then(drawSide);
  start();
  area.focus();
}

begin();
