// The page as a whole: what is served, what runs, and the streams that are open here.

import { ask, keepToken } from "./api.js";
import { Card, copyOf, say, seconds } from "./card.js";
import { Memory } from "./memory.js";

const POLL_MS = 1000;

const at = (id) => document.getElementById(id);
const cards = new Set();
let model = null;

const page = {
  fork(card) {
    const prompt = card.draft || card.prompt;
    const { pace = "realtime", seed, window } = card.first;
    const first = { type: "open", prompt, pace, ...(seed ? { seed } : {}), ...(window ? { window } : {}), fork: card.sessionId };
    begin(new Memory(first));
  },
  refused(code) {
    if (code === "UNAUTHENTICATED") askWho();
  },
  changed() {
    poll();
  },
  gone(card) {
    cards.delete(card);
  },
};

function begin(memory) {
  const card = new Card(memory, model, page);
  cards.add(card);
  at("cards").prepend(card.root);
  card.root.scrollIntoView({ block: "nearest" });
}

function start(event) {
  event.preventDefault();
  const fields = at("new").elements;
  const problem = at("new").querySelector("[data-part=problem]");
  say(problem, "");
  try {
    const first = { type: "open", prompt: fields.prompt.value, pace: fields.pace.value };
    const seed = fields.seed.value.trim();
    if (seed && !/^\d{1,20}$/.test(seed)) throw new Error(`seed: '${seed}' is not allowed; allowed: 0 to 2^64 - 1`);
    if (seed) first.seed = seed;
    const length_s = seconds("length", fields.duration.value);
    if (length_s !== null) first.duration_s = length_s;
    const window = fields.window.value.trim();
    const most = model.max_window;
    if (window && !(/^\d+$/.test(window) && Number(window) >= 1 && Number(window) <= most)) throw new Error(`buffer: '${window}' is not allowed; allowed: 1 to ${most} segments`);
    if (window) first.window = Number(window);
    begin(new Memory(first));
  } catch (error) {
    say(problem, error.message);
  }
}

function showModel() {
  const { name, width, height, fps, steps, level, prompt_help, vocabulary } = model;
  at("model").textContent = `${name} · ${width} × ${height} at ${fps} pictures/s · ${steps.length} steps, level ${level}`;
  at("prompt-help").textContent = prompt_help;
  const groups = vocabulary.map(({ name: kind, words }) => {
    const group = document.createElement("div");
    group.role = "group";
    group.ariaLabel = kind;
    group.append(...words.map((word) => wordButton(word, words)));
    return group;
  });
  at("vocabulary").replaceChildren(...groups);
  showWords();
  at("start").disabled = false;
}

/** A button that puts a word into the prompt, in the place of another of its kind. */
function wordButton(word, words) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = word;
  button.addEventListener("click", () => {
    const kept = promptWords().filter((other) => !words.includes(other.toLowerCase()));
    at("prompt").value = [...kept, word].join(" ");
    showWords();
  });
  return button;
}

function promptWords() {
  return at("prompt").value.split(/\s+/).filter(Boolean);
}

function showWords() {
  const said = new Set(promptWords().map((word) => word.toLowerCase().replace(/[^a-z]/g, "")));
  for (const button of at("vocabulary").querySelectorAll("button")) button.ariaPressed = String(said.has(button.textContent));
}

function askWho() {
  const form = at("sign-in");
  if (!form.hidden) return;
  form.hidden = false;
  at("token").focus();
}

let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  try {
    if (!model) {
      model = await ask("api/model");
      showModel();
      for (const memory of await Memory.kept()) begin(memory);
    }
    const { sessions } = await ask("api/sessions");
    showServer("good", `${sessions.length} stream${sessions.length === 1 ? "" : "s"}`);
    say(at("problem"), "");
    at("sign-in").hidden = true;
    showRunning(sessions);
    for (const card of cards) card.update(sessions.find(({ session_id }) => session_id === card.sessionId));
  } catch (error) {
    if (error.code === undefined) throw error; // a fault of this page, for the console
    showServer("bad", error.code === "GONE" ? "no connection" : "refused");
    say(at("problem"), error.code === "GONE" ? `${error.message} Trying again.` : error.message);
    page.refused(error.code);
  } finally {
    polling = false;
  }
}

function showServer(state, text) {
  const server = at("server");
  if (server.dataset.state !== state) server.dataset.state = state;
  if (server.textContent !== text) server.textContent = text;
}

const rows = new Map();

function showRunning(sessions) {
  const here = new Set([...cards].filter((card) => !card.over).map(({ sessionId }) => sessionId));
  const listed = new Set(sessions.map(({ session_id }) => session_id));
  for (const [id, { root }] of rows) {
    if (!listed.has(id)) {
      root.remove();
      rows.delete(id);
    }
  }
  for (const session of sessions) {
    const id = session.session_id;
    let row = rows.get(id);
    if (!row) {
      row = copyOf("running-row");
      row.parts.watch.addEventListener("click", () => begin(new Memory({ type: "watch", session_id: id })));
      rows.set(id, row);
      at("running").append(row.root);
    }
    row.parts.prompt.textContent = row.parts.prompt.title = session.prompt;
    row.parts.watch.ariaLabel = `Watch ${session.prompt}`;
    row.parts.watch.disabled = here.has(id);
    const whose = session.tenant && session.tenant !== "default" ? ` · ${session.tenant}` : "";
    row.parts.facts.textContent = `${session.state} · block ${session.blocks_begun} · ${session.pace}${whose}`;
  }
  at("none").hidden = sessions.length > 0;
}

at("new").addEventListener("submit", start);
at("prompt").addEventListener("input", showWords);
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("new").requestSubmit();
  }
});
at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(at("token").value.trim());
  at("token").value = "";
  at("sign-in").hidden = true;
  poll();
});
setInterval(poll, POLL_MS);
poll();
