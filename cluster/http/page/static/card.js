// One stream on the page: its video, the ways to steer it, and what is known of it.

import { Connection } from "./api.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

const RATE_OVER_MS = 8000;
const LOOK_EVERY_MS = 200;
const ENDINGS = {
  completed: "The stream is complete.",
  client: "The stream has ended.",
  operator: "An operator has ended the stream.",
  drained: "The server shuts down; the stream has ended.",
  lost: "The server shuts down, and a worker was lost with the stream's last block.",
  failed: "The server could not go on with the stream.",
};

/** The named parts of a copy of a template. */
export function copyOf(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const element of root.querySelectorAll("[data-part]")) parts[element.dataset.part] = element;
  return { root, parts };
}

/** Show a sentence in an element, or hide it. */
export function say(element, sentence) {
  element.textContent = sentence;
  element.hidden = !sentence;
}

/** Seconds in a text; null if it is empty. Throws an Error that says what is allowed. */
export function seconds(field, text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  if (!/^\d+(\.\d+)?$/.test(trimmed)) throw new Error(`${field}: '${trimmed}' is not allowed; allowed: seconds, such as 12 or 1.5`);
  return Number(trimmed);
}

export class Card {
  #parts;
  #connection;
  #player;
  #timeline;
  #model;
  #watching;
  #page;
  #prompts = []; // what is shown from which second on, in order
  #cues = new Map(); // by id: prompt, list item, start
  #cueCount = 0;
  #received = []; // [when in ms, seconds of video]
  #lastSegment = -1;
  #shownSegment = -1;
  #window = 0;
  #paused = false;
  #over = false;
  #timer;

  /** `first` is the first frame, of type open or watch; `page` has `fork(card)`, `refused(code)`. */
  constructor(first, model, page) {
    const { root, parts } = copyOf("card");
    this.root = root;
    this.sessionId = first.type === "watch" ? first.session_id : "";
    this.first = first;
    this.#parts = parts;
    this.#model = model;
    this.#page = page;
    this.#watching = first.type === "watch";
    parts.title.textContent = first.prompt ?? "";
    if (first.prompt) this.#prompts.push({ prompt: first.prompt, start_s: 0 });
    parts.video.setAttribute("aria-label", `Video: ${first.prompt ?? "a stream"}`);
    parts.about.textContent = this.#watching ? "watching" : "yours";
    for (const name of ["cue", "end"]) parts[name].hidden = this.#watching;
    say(parts.veil, "Waiting for the first block …");
    this.#player = new Player(parts.video, {
      shown: (index) => this.#acknowledge(index),
      failed: (why) => say(parts.problem, `video: ${why}`),
    });
    this.#timeline = new Timeline(parts.canvas, parts.caption, model.steps.length);
    this.#listen();
    this.#connection = new Connection(first, {
      message: (message, bytes) => this.#hear(message, bytes),
      lost: (reason) => this.#lost(reason),
    });
    this.#timer = setInterval(() => this.#show(), LOOK_EVERY_MS);
  }

  /** The prompt on the screen. */
  get prompt() {
    const time = this.#player.time;
    return this.#prompts.findLast(({ start_s }) => start_s <= time + 0.01)?.prompt ?? this.#prompts[0]?.prompt ?? "";
  }

  /** What the field for cues holds. */
  get draft() {
    return this.#parts.cue.elements.prompt.value.trim();
  }

  get over() {
    return this.#over;
  }

  /** What the server's list says of this session; undefined if it is not in the list. */
  update(session) {
    if (this.#over || !session) return;
    this.#parts.state.textContent = session.state;
    this.#parts.slack.textContent = session.slack_s === null ? "–" : `${session.slack_s.toFixed(2)} s`;
    if (this.#watching && !this.#prompts.length) this.#prompts.push({ prompt: session.prompt, start_s: 0 });
  }

  #listen() {
    const { pause, end, fork, dismiss, cue } = this.#parts;
    pause.addEventListener("click", () => this.#toggle());
    end.addEventListener("click", () => { this.#connection.send({ type: "close" }); end.disabled = true; });
    fork.addEventListener("click", () => this.#page.fork(this));
    dismiss.addEventListener("click", () => this.dispose());
    this.#parts.longer.addEventListener("click", () => this.#timeline.zoom(1));
    this.#parts.shorter.addEventListener("click", () => this.#timeline.zoom(-1));
    cue.addEventListener("submit", (event) => { event.preventDefault(); this.#send(cue.elements); });
  }

  #toggle() {
    this.#paused = !this.#paused;
    if (!this.#watching) this.#connection.send({ type: this.#paused ? "pause" : "play" });
    if (this.#paused) this.#player.pause();
    else this.#player.play();
    this.#parts.pause.textContent = this.#paused ? "Play" : "Pause";
  }

  #send(fields) {
    say(this.#parts.problem, "");
    let time_s;
    try {
      time_s = seconds("at", fields.time.value);
    } catch (error) {
      say(this.#parts.problem, error.message);
      return;
    }
    const id = `cue-${++this.#cueCount}`;
    const prompt = fields.prompt.value;
    this.#connection.send({ type: "cue", id, prompt, ...(time_s === null ? {} : { time_s }) });
    const item = document.createElement("li");
    const [what, state] = [document.createElement("span"), document.createElement("span")];
    what.textContent = prompt;
    state.textContent = "sent";
    item.append(what, state);
    this.#parts.cues.prepend(item);
    this.#cues.set(id, { prompt, item, state });
    fields.prompt.value = fields.time.value = "";
  }

  #hear(message, bytes) {
    switch (message.type) {
      case "opened": return this.#opened(message, bytes);
      case "segment": return this.#segment(message, bytes);
      case "ops": return this.#timeline.add(message.ops);
      case "no_ops": return this.#timeline.explain(`No ops: ${message.text}`);
      case "cue_accepted": return this.#mark(message.id, "accepted", `at ${message.start_s.toFixed(1)} s, block ${message.block}`);
      case "cue_applied": return this.#applied(message);
      case "cue_superseded": return this.#mark(message.id, "superseded", `gave way to ${this.#cues.get(message.by)?.prompt ?? message.by}`);
      case "refused": return this.#refused(message);
      case "notice": return say(this.#parts.notice, message.text);
      case "closed": return this.#closed(message);
      case "error":
        this.#end("");
        say(this.#parts.problem, message.sentence);
        return this.#page.refused(message.code);
    }
  }

  #opened(message, header) {
    this.sessionId = message.session_id;
    this.#window = message.window;
    this.#parts.about.textContent = `${this.#watching ? "watching" : "yours"} · seed ${message.seed} · ${message.session_id}`;
    this.#parts.video.style.aspectRatio = `${message.width} / ${message.height}`;
    this.#player.open(message.media_type, header);
    this.#player.play();
    this.#page.changed();
  }

  #segment(message, bytes) {
    say(this.#parts.veil, "");
    say(this.#parts.notice, "");
    this.#lastSegment = message.index;
    this.#received.push([performance.now(), message.duration_s]);
    this.#player.append(message, bytes);
  }

  #acknowledge(index) {
    this.#shownSegment = index;
    if (!this.#over) this.#connection.send({ type: "ack", segment: index });
  }

  #mark(id, state, text) {
    const cue = this.#cues.get(id);
    if (!cue) return;
    cue.item.dataset.state = state;
    cue.state.textContent = text;
  }

  #applied({ id, start_s }) {
    const cue = this.#cues.get(id);
    this.#mark(id, "applied", `comes at ${start_s.toFixed(1)} s`);
    if (cue) this.#prompts.push({ prompt: cue.prompt, start_s, id });
  }

  #refused({ id, sentence }) {
    if (this.#cues.has(id)) this.#mark(id, "refused", sentence);
    else say(this.#parts.problem, sentence);
  }

  #closed({ ending, reason }) {
    this.#player.finish();
    const text = ENDINGS[ending] ?? "The stream has ended.";
    this.#end(reason ? `${text} ${reason}` : text);
  }

  #lost(reason) {
    if (this.#over) return;
    this.#end("");
    say(this.#parts.problem, reason || "The connection to the server was lost, and the stream has ended with it.");
  }

  #end(sentence) {
    this.#over = true;
    this.#timeline.stop();
    this.#parts.state.textContent = "ended";
    say(this.#parts.veil, "");
    say(this.#parts.notice, sentence);
    for (const name of ["pause", "fork", "end"]) this.#parts[name].disabled = true;
    this.#parts.cue.hidden = true;
    this.#parts.dismiss.hidden = false;
    this.#page.changed();
  }

  /** Take the card off the page; ends its stream if it goes on. */
  dispose() {
    clearInterval(this.#timer);
    this.#connection.close();
    this.#timeline.dispose();
    this.#player.dispose();
    this.#page.gone(this);
    this.root.remove();
  }

  #show() {
    const { clock, lag, buffered, rate, title } = this.#parts;
    const time = this.#player.time;
    clock.textContent = `${time.toFixed(1)} s`;
    const behind = this.#lastSegment - this.#shownSegment;
    lag.textContent = this.#lastSegment < 0 ? "–" : `${behind} of ${this.#window}`;
    buffered.textContent = `${this.#player.ahead.toFixed(1)} s`;
    const now = performance.now();
    while (this.#received.length > 1 && now - this.#received[0][0] > RATE_OVER_MS) this.#received.shift();
    // The first segment only starts the clock.
    const video_s = this.#received.slice(1).reduce((sum, [, duration_s]) => sum + duration_s, 0);
    const wall_s = this.#received.length ? (now - this.#received[0][0]) / 1000 : 0;
    rate.textContent = wall_s > 1 && !this.#over ? `${(video_s / wall_s).toFixed(2)}×` : "–";
    if (this.prompt) title.textContent = this.prompt;
    for (const { id, start_s } of this.#prompts) if (id && start_s <= time) this.#mark(id, "shown", `shown since ${start_s.toFixed(1)} s`);
  }
}
