// One stream on the page: its video, the ways to steer it, and what is known of it.

import { Line } from "./line.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

const RATE_OVER_MS = 8000;
const LOOK_EVERY_MS = 200;
const TELL_MS = 8000; // so long it is said what has happened
const ENDINGS = {
  completed: "The stream is complete.",
  client: "The stream has ended.",
  operator: "An operator has ended the stream.",
  drained: "The server shuts down; the stream has ended.",
  lost: "The server shuts down, and a worker was lost with the stream's last block.",
  failed: "The server could not go on with the stream.",
  access: "What this page has shown the server no longer holds; the stream has ended.",
  quota: "The quota of the day is used up; the stream has ended.",
  moved: "The stream goes on elsewhere: another connection has it.",
  abandoned: "Nobody was there for too long; the stream has ended.",
};
const CONTINUITIES = {
  exact: () => "The stream goes on, exact: nothing is missing.",
  approximate: () => "The stream goes on: from here on alike, not the same.",
  restarted: ({ segment }) => `The stream goes on, and begins anew from segment ${segment} on.`,
};
const ACCESS = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED"]); // with another token the stream can be gone on with

/** The named parts of a copy of a template. */
export function copyOf(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const element of root.querySelectorAll("[data-part]")) parts[element.dataset.part] = element;
  return { root, parts };
}

/** Show a sentence in an element, or hide it. What is said already is not said again, also by screen readers. */
export function say(element, sentence) {
  if (element.textContent !== sentence) element.textContent = sentence;
  element.hidden = !sentence;
}

/** Seconds in a text; null if it is empty. Throws an Error that says what is allowed. */
export function seconds(field, text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  if (!/^\d+(\.\d+)?$/.test(trimmed)) throw new Error(`${field}: '${trimmed}' is not allowed; allowed: seconds, such as 12 or 1.5`);
  return Number(trimmed);
}

/** What a model takes a prompt for, in words; empty where it reads free text. */
export function inWords(reading) {
  if (!reading) return "";
  const { understood, ignored, defaulted } = reading;
  const parts = [["not understood", ignored], ["understood", understood], ["taken instead", defaulted]];
  return parts.filter(([, found]) => found.length).map(([name, found]) => `${name}: ${found.map((text) => text.replace(": ", " ")).join(", ")}`).join("; ");
}

/** How much of a prompt was understood: all, part or none. */
function heard(reading) {
  if (!reading?.ignored.length) return "all";
  return reading.understood.length ? "part" : "none";
}

export class Card {
  #parts;
  #line;
  #player;
  #timeline;
  #model;
  #page;
  #memory;
  #items = new Map(); // the list items of cues, by id
  #received = []; // [when in ms, seconds of video]
  #lastSegment = -1;
  #broken;
  #told_ms = -Infinity; // when it was said what has happened
  #over = false;
  #timer;

  /** `memory` is of the stream to begin, or to go on with; `page` has `fork(card)`, `refused(code)`. */
  constructor(memory, model, page) {
    const { root, parts } = copyOf("card");
    this.root = root;
    this.#memory = memory;
    this.#parts = parts;
    this.#model = model;
    this.#page = page;
    this.#broken = memory.again() !== null;
    parts.title.textContent = this.prompt;
    parts.video.setAttribute("aria-label", `Video: ${memory.first.prompt ?? "a stream"}`);
    parts.about.textContent = memory.watching ? "watching" : "yours";
    for (const name of ["cue", "end"]) parts[name].hidden = memory.watching;
    parts.end.disabled = memory.ending;
    say(parts.veil, this.#broken ? "Going on with the stream …" : "Waiting for the first block …");
    for (const id of memory.cues.keys()) this.#list(id);
    this.#showPaused();
    this.#player = new Player(parts.video, {
      shown: (segment) => this.#acknowledge(segment),
      failed: (why) => say(parts.problem, `video: ${why}`),
    });
    this.#timeline = new Timeline(parts.canvas, parts.caption, model.steps.length);
    this.#listen();
    this.#line = new Line(memory, {
      message: (message, bytes) => this.#hear(message, bytes),
      broken: () => this.#break(),
      over: (reason) => this.#giveUp(reason),
    });
    this.#timer = setInterval(() => this.#show(), LOOK_EVERY_MS);
    this.#show();
  }

  get first() {
    return this.#memory.first;
  }

  get sessionId() {
    return this.#memory.sessionId;
  }

  /** The prompt on the screen. */
  get prompt() {
    return this.#current?.prompt ?? "";
  }

  get #current() {
    const { prompts } = this.#memory;
    return prompts.findLast(({ start_s }) => start_s <= this.#time + 0.01) ?? prompts[0];
  }

  /** How far the stream has been shown; the video begins there after a reload. */
  get #time() {
    return this.#player?.isPlaced ? this.#player.time : this.#memory.shown_s;
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
    if (!this.#broken) this.#parts.state.textContent = session.state;
    this.#parts.slack.textContent = session.slack_s === null ? "–" : `${session.slack_s.toFixed(2)} s`;
  }

  #listen() {
    const { pause, end, fork, dismiss, cue } = this.#parts;
    pause.addEventListener("click", () => this.#toggle());
    end.addEventListener("click", () => this.#askForEnd());
    fork.addEventListener("click", () => this.#page.fork(this));
    dismiss.addEventListener("click", () => this.dispose());
    this.#parts.longer.addEventListener("click", () => this.#timeline.zoom(1));
    this.#parts.shorter.addEventListener("click", () => this.#timeline.zoom(-1));
    cue.addEventListener("submit", (event) => { event.preventDefault(); this.#send(cue.elements); });
  }

  #toggle() {
    const memory = this.#memory;
    memory.paused = !memory.paused;
    memory.save();
    if (!memory.watching) this.#line.send({ type: memory.paused ? "pause" : "play" });
    if (memory.paused) this.#player.pause();
    else this.#player.play();
    this.#showPaused();
  }

  #showPaused() {
    this.#parts.pause.textContent = this.#memory.paused ? "Play" : "Pause";
  }

  #askForEnd() {
    this.#memory.ending = this.#parts.end.disabled = true;
    this.#memory.save();
    this.#line.send({ type: "close" });
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
    const id = `cue-${++this.#memory.cueCount}`;
    const prompt = fields.prompt.value;
    this.#memory.cues.set(id, { prompt, time_s, state: "sent", text: "sent" });
    this.#memory.save();
    this.#line.send({ type: "cue", id, prompt, ...(time_s === null ? {} : { time_s }) });
    this.#list(id);
    fields.prompt.value = fields.time.value = "";
  }

  /** Put a cue into the list. */
  #list(id) {
    const { prompt, state, text, reading } = this.#memory.cues.get(id);
    const item = document.createElement("li");
    const spans = [document.createElement("span"), document.createElement("span")];
    [spans[0].textContent, spans[1].textContent] = [prompt, text];
    item.append(...spans);
    item.dataset.state = state;
    item.dataset.heard = heard(reading);
    this.#parts.cues.prepend(item);
    this.#items.set(id, item);
  }

  #hear(message, bytes) {
    switch (message.type) {
      case "opened": return this.#opened(message, bytes);
      case "segment": return this.#segment(message, bytes);
      case "ops": return this.#timeline.add(message.ops);
      case "no_ops": return this.#timeline.explain(`No ops: ${message.text}`);
      case "cue_accepted": return this.#accepted(message);
      case "cue_applied": return this.#applied(message);
      case "cue_superseded": return this.#mark(message.id, "superseded", `gave way to ${this.#memory.cues.get(message.by)?.prompt ?? message.by}`);
      case "refused": return this.#refused(message);
      case "notice": return say(this.#parts.notice, message.text);
      case "recovered": return this.#happened(message.text);
      case "resumed":
        this.#memory.renewed(message.resume_token);
        return this.#happened(message.text);
      case "closed": return this.#closed(message);
      case "error": return this.#failed(message);
    }
  }

  /** Say something that stays for a while. */
  #happened(text) {
    this.#told_ms = performance.now();
    say(this.#parts.notice, text);
  }

  #opened(message, header) {
    const memory = this.#memory;
    memory.opened(message);
    this.#tellPrompt(message);
    this.#parts.about.textContent = `${memory.watching ? "watching" : "yours"} · seed ${message.seed} · ${message.session_id}`;
    this.#parts.video.style.aspectRatio = `${message.width} / ${message.height}`;
    if (!this.#player.isOpen) {
      this.#player.open(message.media_type, header);
      if (memory.paused) say(this.#parts.veil, "Paused.");
      else this.#player.play();
    }
    if (this.#broken) this.#mend(message);
    this.#page.changed();
  }

  /** Which prompt is shown from here on, and what the model takes it for. */
  #tellPrompt({ prompt, reading }) {
    const { prompts } = this.#memory;
    const last = prompts.at(-1);
    if (last?.prompt === prompt) last.reading = reading;
    else if (prompt && (this.#memory.watching || !last)) prompts.push({ prompt, reading, start_s: last ? this.#time : 0 });
    this.#memory.save();
  }

  /** The connection is broken, and another one is tried; what is here plays on. */
  #break() {
    this.#broken = true;
    this.#parts.state.textContent = "lost";
    this.#parts.notice.dataset.state = "broken";
    say(this.#parts.notice, "Connection lost, reconnecting …");
  }

  /** The stream goes on with another connection. */
  #mend(opened) {
    this.#broken = false;
    this.#parts.notice.dataset.state = "";
    this.#timeline.restart();
    this.#happened(this.#memory.watching ? "Watching again, from the newest on." : (CONTINUITIES[opened.continuity] ?? CONTINUITIES.exact)(opened));
  }

  #segment(message, bytes) {
    if (message.index <= this.#lastSegment) return; // it is here from the connection before
    say(this.#parts.veil, "");
    if (!this.#tells) say(this.#parts.notice, "");
    this.#lastSegment = message.index;
    this.#received.push([performance.now(), message.duration_s]);
    this.#player.append(message, bytes);
  }

  /** Whether what has happened is still to be read. */
  get #tells() {
    return performance.now() - this.#told_ms < TELL_MS;
  }

  #acknowledge(segment) {
    if (this.#over) return;
    this.#memory.shown(segment);
    this.#line.send({ type: "ack", segment: segment.index });
  }

  #mark(id, state, text) {
    const cue = this.#memory.cues.get(id);
    if (!cue || (cue.state === state && cue.text === text)) return;
    Object.assign(cue, { state, text });
    this.#memory.save();
    const item = this.#items.get(id);
    item.dataset.state = state;
    item.lastElementChild.textContent = text;
  }

  // What is said of cues may come again after the connection broke.

  #accepted({ id, start_s, block, reading }) {
    const cue = this.#memory.cues.get(id);
    if (cue?.state !== "sent") return;
    cue.reading = reading;
    this.#items.get(id).dataset.heard = heard(reading);
    this.#mark(id, "accepted", `at ${start_s.toFixed(1)} s, block ${block}${this.#unheard(id)}`);
  }

  #applied({ id, start_s, prompt, reading }) {
    const { cues, prompts } = this.#memory;
    if (prompts.some((known) => known.id === id)) return;
    prompts.push({ prompt: prompt || (cues.get(id)?.prompt ?? ""), start_s, id, reading });
    this.#mark(id, "applied", `comes at ${start_s.toFixed(1)} s${this.#unheard(id)}`);
  }

  /** What of a cue the model does not understand. */
  #unheard(id) {
    const ignored = this.#memory.cues.get(id)?.reading?.ignored ?? [];
    return ignored.length ? `; not understood: ${ignored.join(", ")}` : "";
  }

  #refused({ id, sentence }) {
    if (this.#memory.cues.has(id)) this.#mark(id, "refused", sentence);
    else say(this.#parts.problem, sentence);
  }

  #closed({ ending, reason }) {
    this.#player.finish();
    this.#memory.forget();
    const text = ENDINGS[ending] ?? "The stream has ended.";
    this.#end(reason ? `${text} ${reason}` : text);
  }

  #failed({ code, sentence }) {
    this.#end("");
    const gone = this.#broken && code === "NOT_FOUND";
    say(this.#parts.problem, gone ? "The stream cannot be gone on with: it has ended, or another connection has it." : sentence);
    if (!ACCESS.has(code)) this.#memory.forget();
    this.#page.refused(code);
  }

  /** There will be no other connection. */
  #giveUp(reason) {
    this.#end("");
    const later = "The connection could not be made again. The server keeps the stream for a while: load the page again to go on with it.";
    const never = "The connection to the server was lost, and the stream has ended with it.";
    const goesOn = !this.#memory.watching && this.#memory.again();
    if (goesOn) this.#parts.state.textContent = "lost";
    say(this.#parts.problem, goesOn ? later : reason || (this.#memory.watching ? "The connection to the server was lost." : never));
  }

  #end(sentence) {
    this.#over = true;
    this.#timeline.stop();
    this.#parts.notice.dataset.state = "";
    this.#parts.state.textContent = "ended";
    say(this.#parts.veil, "");
    say(this.#parts.notice, sentence);
    for (const name of ["pause", "fork", "end"]) this.#parts[name].disabled = true;
    this.#parts.cue.hidden = true;
    this.#parts.dismiss.hidden = false;
    this.#page.changed();
  }

  /** Take the card off the page. */
  dispose() {
    clearInterval(this.#timer);
    this.#memory.forget();
    this.#line.close();
    this.#timeline.dispose();
    this.#player.dispose();
    this.#page.gone(this);
    this.root.remove();
  }

  #show() {
    const { clock, lag, buffered, rate, title, notice, reading } = this.#parts;
    const { cursor, window, prompts } = this.#memory;
    const time = this.#time;
    clock.textContent = `${time.toFixed(1)} s`;
    const behind = this.#lastSegment - (cursor ?? -1);
    lag.textContent = this.#lastSegment < 0 ? "–" : `${behind} of ${window}`;
    if (this.#told_ms > 0 && !this.#tells && !this.#broken && !this.#over) {
      this.#told_ms = -Infinity;
      say(notice, "");
    }
    buffered.textContent = `${this.#player.ahead.toFixed(1)} s`;
    const now = performance.now();
    while (this.#received.length > 1 && now - this.#received[0][0] > RATE_OVER_MS) this.#received.shift();
    // The first segment only starts the clock.
    const video_s = this.#received.slice(1).reduce((sum, [, duration_s]) => sum + duration_s, 0);
    const wall_s = this.#received.length ? (now - this.#received[0][0]) / 1000 : 0;
    rate.textContent = wall_s > 1 && !this.#over ? `${(video_s / wall_s).toFixed(2)}×` : "–";
    if (this.prompt) title.textContent = this.prompt;
    const shown = this.#current?.reading;
    say(reading, inWords(shown));
    reading.dataset.heard = heard(shown);
    for (const { id, start_s } of prompts) {
      if (id && start_s <= time) this.#mark(id, "shown", `shown since ${start_s.toFixed(1)} s${this.#unheard(id)}`);
    }
  }
}
