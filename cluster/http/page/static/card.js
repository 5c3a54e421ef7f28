// One stream on the page: its video, the ways to steer it, and what is known of it.

import { Cues } from "./cues.js";
import { Line } from "./line.js";
import { Player } from "./player.js";
import { Rates } from "./rates.js";
import { Room } from "./room.js";
import { Screen } from "./screen.js";
import { CONTINUITIES, copyOf, endingInWords, heard, refusalInWords, say, sayReading } from "./texts.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

const LOOK_EVERY_MS = 200;
const TELL_MS = 8000; // so long it is said what has happened
const REST_MS = 4000; // so long a stream that has ended stays as it is
const ACCESS = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED"]); // with another token the stream can be gone on with
const THUMB_PX = 96;

let count = 0;

export class Card {
  #parts;
  #line;
  #player;
  #timeline;
  #screen;
  #cues;
  #rates;
  #tools;
  #room = null;
  #model;
  #page;
  #memory;
  #lastSegment = -1;
  #broken;
  #told_ms = -Infinity; // when it was said what has happened
  #over_ms = null; // when the stream ended
  #sentence = ""; // how
  #settled = false;
  #timer;

  /** `memory` is of the stream to begin, or to go on with; `page` is what cards ask for. */
  constructor(memory, model, page) {
    const { root, parts } = copyOf("card");
    this.root = root;
    this.#memory = memory;
    this.#parts = parts;
    this.#model = model;
    this.#page = page;
    this.#broken = memory.again() !== null;
    this.#rates = new Rates(model.fps);
    root.dataset.number = ++count;
    parts.title.textContent = this.prompt;
    parts.title.id = `title-${count}`;
    root.setAttribute("aria-labelledby", parts.title.id);
    parts.cueProblem.id = `cue-problem-${count}`;
    parts.video.setAttribute("aria-label", `Video: ${memory.first.prompt ?? "a stream"}`);
    parts.about.textContent = memory.watching ? "watching" : "yours";
    parts.end.hidden = memory.watching;
    parts.end.disabled = memory.ending;
    say(parts.veil, this.#broken ? "Going on with the stream …" : "Waiting for the first block …");
    this.#cues = new Cues(parts, { memory, model, send: (frame) => this.#line.send(frame), prompt: () => this.prompt });
    this.#showPaused();
    this.#screen = new Screen(parts, model);
    this.#tools = new Tools(parts, { memory, screen: this.#screen, time: () => this.#time, tell: (text) => this.#happened(text) });
    this.#player = new Player(parts.video, {
      shown: (segment) => this.#acknowledge(segment),
      failed: (why) => say(parts.problem, `video: ${why}`),
    });
    const { first_block_pictures: first, block_pictures: each, fps } = model;
    this.#timeline = new Timeline(parts.canvas, parts.caption, model.steps.length, (block) => (block ? first + (block - 1) * each : 0) / fps);
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

  get isOwn() {
    return !this.#memory.watching;
  }

  /** Whether the reader may send cues. */
  get isSteered() {
    return this.isOwn && !this.over;
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
    return this.#cues.draft;
  }

  /** The stream has ended. */
  get over() {
    return this.#over_ms !== null;
  }

  /** And its end has been seen, for a while. */
  get isDone() {
    return this.over && !this.#room && performance.now() - this.#over_ms >= REST_MS && (this.#player.isDone || this.#player.isPaused || !this.#player.isOpen);
  }

  /** What the server's list says of this session; undefined if it is not in the list. */
  update(session) {
    if (this.over || !session) return;
    if (!this.#broken) this.#parts.state.textContent = session.state;
    this.#parts.slack.textContent = session.slack_s === null ? "–" : `${session.slack_s.toFixed(2)} s`;
  }

  /** Show it to the reader, with the field that steers it. */
  reveal() {
    this.root.scrollIntoView({ block: "nearest" });
    if (this.isSteered) this.focusCue();
    else this.#parts.pause.focus({ preventScroll: true });
  }

  focusCue() {
    this.#cues.focus();
  }

  #listen() {
    const { pause, end, fork, dismiss, again, longer, shorter } = this.#parts;
    const buttons = [
      [pause, () => this.toggle()], [end, () => this.#askForEnd()], [fork, () => this.#page.fork(this)],
      [dismiss, () => this.dispose()], [again, () => this.#page.begin(this.#again, this)],
      [longer, () => this.#timeline.zoom(1)], [shorter, () => this.#timeline.zoom(-1)],
    ];
    for (const [button, work] of buttons) button.addEventListener("click", work);
  }

  /** Pause, or go on. */
  toggle() {
    if (this.over) return;
    const memory = this.#memory;
    memory.paused = !memory.paused;
    memory.save();
    if (!memory.watching) this.#line.send({ type: memory.paused ? "pause" : "play" });
    if (memory.paused) this.#player.pause();
    else this.#player.play();
    this.#showPaused();
  }

  #showPaused() {
    this.#parts.pause.dataset.paused = String(Boolean(this.#memory.paused));
    this.#parts.pauseText.textContent = this.#memory.paused ? "Play" : "Pause";
  }

  toggleFull() {
    this.#tools.toggleFull();
  }

  /** Save the picture on the screen. */
  snap() {
    this.#tools.snap();
  }

  #askForEnd() {
    this.#memory.ending = this.#parts.end.disabled = true;
    this.#memory.save();
    if (this.#memory.again() || this.#lastSegment >= 0) this.#line.send({ type: "close" });
    else this.dispose(); // it waits to begin, and ends with its connection
  }

  #hear(message, bytes) {
    switch (message.type) {
      case "opened": return this.#opened(message, bytes);
      case "segment": return this.#segment(message, bytes);
      case "ops": return this.#timeline.add(message.ops);
      case "no_ops": return this.#timeline.explain(`No ops: ${message.text}`);
      case "cue_accepted": return this.#cues.accepted(message);
      case "cue_applied": return this.#cues.applied(message);
      case "cue_superseded": return this.#cues.superseded(message);
      case "refused": return this.#refused(message);
      case "notice": return this.#notice(message.text);
      case "recovered": return this.#happened(message.text);
      case "resumed":
        this.#memory.renewed(message.resume_token);
        return this.#happened(message.text);
      case "closed": return this.#closed(message);
      case "error": return this.#failed(message);
    }
  }

  /** Say something until the next segment. Words without effect are told where their prompt is, for as long as it holds. */
  #notice(text) {
    if (!(this.#model.vocabulary.length && text.startsWith("ignored words"))) say(this.#parts.notice, text);
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
    this.#screen.shape(message.width, message.height);
    this.#tools.opened(message, header);
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
    this.#rates.restart();
    this.#happened(this.#memory.watching ? "Watching again, from the newest on." : (CONTINUITIES[opened.continuity] ?? CONTINUITIES.exact)(opened));
  }

  #segment(message, bytes) {
    if (message.index <= this.#lastSegment) return; // it is here from the connection before
    say(this.#parts.veil, "");
    if (!this.#tells) say(this.#parts.notice, "");
    this.#lastSegment = message.index;
    this.#rates.note(message.duration_s, this.#memory.window);
    this.#tools.received(message, bytes);
    this.#player.append(message, bytes);
  }

  /** Whether what has happened is still to be read. */
  get #tells() {
    return performance.now() - this.#told_ms < TELL_MS;
  }

  #acknowledge(segment) {
    if (this.over) return;
    this.#memory.shown(segment);
    this.#line.send({ type: "ack", segment: segment.index });
  }

  #refused({ id, sentence }) {
    if (this.#cues.has(id)) this.#cues.mark(id, "refused", sentence);
    else say(this.#parts.problem, sentence);
  }

  #closed(message) {
    this.#player.finish();
    this.#memory.forget();
    this.#end(endingInWords(message, this.#memory.watching));
  }

  #failed(message) {
    const { code } = message;
    const { sentence, after_s } = refusalInWords(message);
    const isFull = code === "RESOURCE_EXHAUSTED" && after_s !== null && this.isOwn && !this.#memory.sessionId;
    const gone = this.#broken && code === "NOT_FOUND";
    const left = this.#memory.watching && code === "NOT_FOUND" ? "There is no such stream: it has ended, or its link is wrong." : message.sentence;
    this.#end("", gone ? "The stream cannot be gone on with: it has ended, or another connection has it." : isFull ? "" : left);
    if (isFull) this.#waitForRoom(sentence, after_s);
    if (!ACCESS.has(code)) this.#memory.forget();
    this.#page.refused(code);
  }

  /** There was no room: try again in a while, or as the reader chooses. */
  #waitForRoom(sentence, after_s) {
    const begin = (first) => this.#page.begin(first, this);
    this.#room = new Room(this.#parts, { sentence, after_s, first: this.first, begin });
    this.root.dataset.waits = "true";
  }

  /** There will be no other connection. */
  #giveUp(reason) {
    const later = "The connection could not be made again. The server keeps the stream for a while: load the page again to go on with it.";
    const never = "The connection to the server was lost, and the stream has ended with it.";
    const goesOn = !this.#memory.watching && this.#memory.again();
    this.#end("", goesOn ? later : reason || (this.#memory.watching ? "The connection to the server was lost." : never));
    if (goesOn) this.#parts.state.textContent = "lost";
  }

  /** The stream has ended, for a reason or with a problem. */
  #end(sentence, problem = "") {
    const { state, veil, notice, cue, again, dismiss } = this.#parts;
    this.#over_ms = performance.now();
    this.#sentence = sentence || problem;
    this.root.dataset.over = "true";
    this.root.dataset.began = String(this.#lastSegment >= 0);
    if (this.#player.isOpen) this.#player.finish();
    if (this.#memory.ending) this.#player.pause();
    this.#timeline.stop();
    const isFocusLost = [cue, this.#parts.end, this.#parts.pause].some((element) => element.contains(document.activeElement));
    this.#cues.end();
    notice.dataset.state = "";
    state.textContent = "ended";
    say(veil, "");
    say(notice, sentence);
    say(this.#parts.problem, problem);
    for (const name of ["pause", "fork", "end", "share"]) this.#parts[name].disabled = true;
    again.hidden = dismiss.hidden = false;
    again.textContent = this.#memory.watching ? "Watch again" : "Start again";
    if (isFocusLost) again.focus({ preventScroll: true });
    this.#page.changed();
  }

  /** The frame that begins the same stream again. */
  get #again() {
    const { seed, watching } = this.#memory;
    const session_id = this.sessionId;
    return watching ? { ...this.first, session_id } : { ...this.first, ...(seed ? { seed } : {}) };
  }

  /** Draw what is shown into a small canvas; whether there was something. */
  drawInto(canvas) {
    return this.#screen.drawInto(canvas);
  }

  /** Take the card off the page; what remains of it is one line. */
  fold() {
    const picture = document.createElement("canvas");
    picture.width = picture.height = THUMB_PX;
    picture.className = "thumb";
    const length = this.#lastSegment >= 0 ? `${this.#time.toFixed(1)} s · ` : "";
    const line = {
      title: this.prompt || this.sessionId, sentence: length + this.#sentence, first: this.#again, save: this.#tools.saving,
      picture: this.drawInto(picture) ? picture : null,
    };
    this.#release();
    return line;
  }

  /** Take the card off the page. */
  dispose() {
    this.#release();
    this.#page.gone(this);
  }

  #release() {
    clearInterval(this.#timer);
    this.#room?.dispose();
    this.#memory.forget();
    this.#line.close();
    this.#timeline.dispose();
    this.#screen.dispose();
    this.#player.dispose();
    this.root.remove();
  }

  #show() {
    const { clock, title, notice, reading } = this.#parts;
    const time = this.#time;
    clock.textContent = `${time.toFixed(1)} s`;
    if (this.#told_ms > 0 && !this.#tells && !this.#broken) {
      this.#told_ms = -Infinity;
      say(notice, this.over ? this.#sentenceOfEnd : "");
    }
    if (this.prompt && title.textContent !== this.prompt) title.textContent = this.prompt;
    const shown = this.#current?.reading;
    sayReading(reading, shown);
    reading.dataset.heard = heard(shown);
    this.#cues.shownUntil(time);
    this.#showFacts(time);
    if (!this.#settled && this.isDone) {
      this.#settled = true;
      this.#page.changed();
    }
  }

  get #sentenceOfEnd() {
    return this.#parts.problem.hidden ? this.#sentence : "";
  }

  #showFacts(time) {
    const { lag, buffered, made, shown, stalls } = this.#parts;
    const { cursor, window } = this.#memory;
    const isStill = this.over || this.#player.isPaused;
    this.#rates.look(time, isStill);
    const facts = [
      [lag, this.#lastSegment < 0 ? "–" : `${this.#lastSegment - (cursor ?? -1)} of ${window}`],
      [buffered, `${this.#player.ahead.toFixed(1)} s`],
      [made, isStill ? "–" : inSeconds(this.#rates.made)],
      [shown, isStill ? "–" : inSeconds(this.#rates.shown)],
      [stalls, String(this.#player.stalls)],
    ];
    for (const [element, text] of facts) if (element.textContent !== text) element.textContent = text;
  }
}

function inSeconds(rate) {
  return rate === null ? "–" : `${rate.toFixed(1)} /s`;
}
