// What is asked of the server, and what is told where it does not answer.

const KEY = "urial-key"; // of this tab only
let key = remembered("sessionStorage", KEY) || "";

function useKey(value) {
  key = value.trim();
  remember("sessionStorage", KEY, key || null);
}

// An error for a reader: a sentence, and what kind it is.
class Told extends Error {
  constructor(message, kind, status) {
    super(message);
    this.kind = kind; // lost, key, long, busy, loading, stopped or other
    this.status = status || 0;
  }
}

const UNREACHABLE = "The server does not answer. Check whether it is still running; nothing you typed is lost.";

async function send(path, body, signal) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw new Told("Stopped.", "stopped");
    throw new Told(UNREACHABLE, "lost");
  }
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

async function refusal(reply) {
  let error = null;
  try { error = (await reply.json()).error; } catch { /* not ours: a proxy's page, perhaps */ }
  const said = error && typeof error.message === "string" ? error.message : `The server answered with status ${reply.status}.`;
  const code = error ? error.code : null;
  if (reply.status === 401) return new Told("The server asks for its key.", "key", 401);
  if (reply.status === 429) return new Told(`${said} Wait a moment, then try again.`, "busy", 429);
  if (reply.status === 503) return new Told(code === "loading" ? "The model is still being loaded." : `${said} Restart it, then try again.`, code === "loading" ? "loading" : "lost", 503);
  return new Told(said, code === "context_length_exceeded" ? "long" : "other", reply.status);
}

async function ask(path, body, signal) {
  const reply = await send(path, body, signal);
  try { return await reply.json(); } catch { throw new Told(UNREACHABLE, "lost"); }
}

// The events of an answer, each parsed, until [DONE]. A stream that ends before that was lost.
async function* events(body, signal) {
  const reply = await send("/v1/chat/completions", body, signal);
  const reader = reply.body.getReader(), decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        if (part === "data: [DONE]") return;
        const event = JSON.parse(part.slice(6));
        if (event.error) throw new Told(`${event.error.message} Try again.`, event.error.code === "draining" ? "lost" : "other");
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof Told) throw error;
    if (error.name === "AbortError") throw new Told("Stopped.", "stopped");
    throw new Told("The connection was lost before the answer was complete. What arrived is kept.", "lost");
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new Told("The connection was lost before the answer was complete. What arrived is kept.", "lost");
}
