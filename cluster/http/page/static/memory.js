// What is known of a stream beside its video, so that another connection can go on with it; after a reload as well.
// Of an own stream it is in sessionStorage, which only this tab has and which ends with it: the token is a secret. A tab
// that is duplicated gets a copy, so before anything is taken from there the other tabs are asked whether they have it.

const STREAM = "longtake.stream.";
const ASK_MS = 250; // so long other tabs may take to answer
const MOST_CUES = 100; // so many are known after a reload

const here = new Set(); // the sessions that this page has
const tabs = new BroadcastChannel("longtake.streams");
tabs.addEventListener("message", ({ data }) => {
  const had = (data.asked ?? []).filter((id) => here.has(id));
  if (had.length) tabs.postMessage({ had });
});

export class Memory {
  sessionId;
  window = 0;
  cursor = null; // the last segment that was shown
  shown_s = 0; // until when that goes
  prompts = []; // what is shown from which second on, in order
  cues = new Map(); // by id: prompt, time_s, cut, back_to_shot, start_s, state, text, reading
  shots = []; // the shots that came: number, start_s
  seed = ""; // as the server drew it, or as it was asked for
  cueCount = 0;
  paused = null; // whether it was asked to pause or to play; null: neither
  ending = false; // whether its end was asked for
  #token = "";
  #isOpened = false;
  #begun_ms = Date.now();

  /** `first` is the first frame, of type open or watch. */
  constructor(first) {
    this.first = first;
    this.watching = first.type === "watch";
    this.sessionId = first.session_id ?? "";
    if (first.prompt) this.prompts.push({ prompt: first.prompt, start_s: 0 });
  }

  /** The streams that this tab had before its page was loaded again and no other tab has, in the order they were begun. */
  static async kept() {
    const keys = Object.keys(sessionStorage).filter((key) => key.startsWith(STREAM));
    const elsewhere = keys.length ? await elsewhereOf(keys.map((key) => key.slice(STREAM.length))) : new Set();
    const found = [];
    for (const key of keys) {
      if (elsewhere.has(key.slice(STREAM.length))) sessionStorage.removeItem(key);
      else found.push(Memory.#from(JSON.parse(sessionStorage.getItem(key))));
    }
    for (const { sessionId } of found) here.add(sessionId);
    return found.sort((one, other) => one.#begun_ms - other.#begun_ms);
  }

  static #from({ first, token, begun_ms, cues, ...known }) {
    const memory = new Memory(first);
    memory.#token = token;
    memory.#begun_ms = begun_ms;
    memory.#isOpened = true;
    return Object.assign(memory, known, { cues: new Map(cues) });
  }

  /** The first frame of another connection, which goes on with the stream; null if there is nothing to go on with. */
  again() {
    if (!this.#isOpened) return null;
    if (this.watching) return this.first;
    if (!this.#token) return null;
    return { type: "resume", resume_token: this.#token, ...(this.cursor === null ? {} : { cursor: this.cursor }) };
  }

  /** What may not have arrived before the connection broke. */
  repetition() {
    const shown = this.cursor === null ? [] : [{ type: "ack", segment: this.cursor }];
    if (this.watching) return shown;
    const unanswered = [...this.cues].filter(([, { state }]) => state === "sent");
    const cues = unanswered.map(([id, cue]) => cueFrame(id, cue));
    const wish = this.paused === null ? [] : [{ type: this.paused ? "pause" : "play" }];
    return [...cues, ...shown, ...wish, ...(this.ending ? [{ type: "close" }] : [])];
  }

  opened({ session_id, seed, window, resume_token }) {
    this.sessionId = session_id;
    this.seed = seed;
    this.window = window;
    this.renewed(resume_token);
  }

  /** Another token goes on with the stream from now on. */
  renewed(token) {
    this.#token = token;
    this.#isOpened = true;
    this.save();
  }

  shown({ index, start_s, duration_s }) {
    this.cursor = index;
    this.shown_s = start_s + duration_s;
    this.save();
  }

  /** What was kept is older than what the server still has: all before `cursor` was shown. */
  passOver(cursor) {
    this.cursor = cursor;
    this.save();
  }

  /** Keep it for after a reload. */
  save() {
    if (this.watching || !this.#token) return;
    here.add(this.sessionId);
    const { sessionId, seed, cursor, shown_s, cueCount, paused, ending } = this;
    const { pictures, ...first } = this.first; // they are large, and the stream has them
    if (pictures) first.without_pictures = true;
    const shots = this.shots.slice(-MOST_CUES);
    const prompts = this.prompts.slice(-MOST_CUES);
    const cues = [...this.cues].slice(-MOST_CUES);
    const known = { first, token: this.#token, begun_ms: this.#begun_ms, sessionId, seed, cursor, shown_s, prompts, cues, shots, cueCount, paused, ending };
    try {
      sessionStorage.setItem(STREAM + sessionId, JSON.stringify(known));
    } catch {
      // It is full: the stream goes on, and a reload finds what was kept last.
    }
  }

  /** There is nothing to go on with any more. */
  forget() {
    this.#token = "";
    here.delete(this.sessionId);
    if (!this.watching) sessionStorage.removeItem(STREAM + this.sessionId);
  }
}

/** A cue as it is asked for. */
export function cueFrame(id, { prompt, time_s, cut, back_to_shot = null }) {
  const back = back_to_shot === null ? {} : { back_to_shot };
  return { type: "cue", id, prompt, ...(time_s === null ? {} : { time_s }), ...(cut ? { cut } : {}), ...back };
}

/** Those of these sessions that other tabs have. */
async function elsewhereOf(asked) {
  const found = new Set();
  const listen = ({ data }) => (data.had ?? []).forEach((id) => found.add(id));
  tabs.addEventListener("message", listen);
  tabs.postMessage({ asked });
  await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  tabs.removeEventListener("message", listen);
  return found;
}
