// One stream on the page: its video, the ways to steer it, and what is known of it.

import { Cues } from "./cues.js";
import { Figures } from "./figures.js";
import { Line } from "./line.js";
import { Notices } from "./notices.js";
import { Player } from "./player.js";
import { recipeOf } from "./recipes.js";
import { Room } from "./room.js";
import { Screen } from "./screen.js";
import { CONTINUITIES, copyOf, heard, say, sayReading } from "./texts.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

const LOOK_EVERY_MS = 200;
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
  #figures;
  #notices;
  #tools;
  #room = null;
  #model;
  #page;
  #memory;
  #lastSegment = -1;
  #broken;
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
    this.#figures = new Figures(parts, model.fps);
    this.#notices = new Notices(parts.notice);
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
    this.#tools = new Tools(parts, { memory, screen: this.#screen, time: () => this.#time, tell: (text) => this.#notices.happened(text) });
    this.#player = new Player(parts.video, {
      shown: (segment) => this.#acknowledge(segment),
      failed: (why) => say(parts.problem, `video: ${why}`),
    });
    this.#timeline = new Timeline(parts.canvas, parts.caption, recipeOf(model, memory.first.recipe), model.fps);
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
    this.#figures.slack(session.slack_s);
  }

  /** Show it to the reader, with the field that steers it. */
  reveal() {
    this.#parts.theatre.scrollIntoView({ block: "nearest" });
    // On a phone the field's keyboard would hide the picture.
    if (this.isSteered && !matchMedia("(pointer: coarse)").matches) this.focusCue();
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

  /** Fullscreen, and what can be saved. */
  get tools() {
    return this.#tools;
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
      case "recovered": return this.#notices.happened(message.text);
      case "resumed":
        this.#memory.renewed(message.resume_token);
        return this.#notices.happened(message.text);
      case "closed": return this.#closed(message);
      case "error": return this.#failed(message);
    }
  }

  /** Words without effect are told where their prompt is, for as long as it holds. */
  #notice(text) {
    if (!(this.#model.vocabulary.length && text.startsWith("ignored words"))) this.#notices.passing(text);
  }

  #opened(message, header) {
    const memory = this.#memory;
    memory.opened(message);
    this.#tellPrompt(message);
    const { recipes, fps } = this.#model;
    const made = recipeOf(this.#model, message.recipe);
    this.#timeline.madeBy(made, fps);
    this.#cues.canCut(made.cut);
    const recipe = recipes.length > 1 ? ` · ${message.recipe}` : "";
    this.#parts.about.textContent = `${memory.watching ? "watching" : "yours"}${recipe} · seed ${message.seed} · ${message.session_id}`;
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
    this.#notices.lasting("Connection lost, reconnecting …", true);
  }

  /** The stream goes on with another connection. */
  #mend(opened) {
    this.#broken = false;
    this.#notices.lasting("");
    this.#timeline.restart();
    this.#figures.restart();
    this.#notices.happened(this.#memory.watching ? "Watching again, from the newest on." : (CONTINUITIES[opened.continuity] ?? CONTINUITIES.exact)(opened));
  }

  #segment(message, bytes) {
    if (message.index <= this.#lastSegment) return; // it is here from the connection before
    say(this.#parts.veil, "");
    this.#notices.segment();
    this.#lastSegment = message.index;
    this.#cues.shot(message.shot, message.start_s);
    this.#figures.came(message.duration_s, this.#memory.window);
    this.#tools.received(message, bytes);
    this.#player.append(message, bytes);
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
    this.#end(message.sentence);
  }

  #failed(message) {
    const { code, retry_after_s = null, fast_instead = false } = message;
    const isFull = (retry_after_s !== null || fast_instead) && code === "RESOURCE_EXHAUSTED" && this.isOwn && !this.#memory.sessionId;
    const gone = this.#broken && code === "NOT_FOUND";
    const left = this.#memory.watching && code === "NOT_FOUND" ? "There is no such stream: it has ended, or its link is wrong." : message.sentence;
    const isHere = this.root.contains(document.activeElement);
    this.#end("", gone ? "The stream cannot be gone on with: it has ended, or another connection has it." : isFull ? "" : left);
    if (isFull) this.#waitForRoom(message, isHere);
    if (!ACCESS.has(code)) this.#memory.forget();
    this.#page.refused(code);
  }

  /** There was no room: try again in a while, or as the reader chooses. */
  #waitForRoom(refusal, isHere) {
    const begin = (first) => this.#page.begin(first, this);
    this.root.dataset.waits = "true";
    this.#room = new Room(this.#parts, { refusal, first: this.first, begin });
    if (isHere) this.#room.focus();
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
    const { state, veil, cue, pause, end, again, dismiss } = this.#parts;
    this.#over_ms = performance.now();
    this.#sentence = sentence || problem;
    this.root.dataset.over = "true";
    this.root.dataset.began = String(this.#lastSegment >= 0);
    if (this.#player.isOpen) this.#player.finish();
    if (this.#memory.ending) this.#player.pause();
    this.#timeline.stop();
    const focused = document.activeElement; // if it was on the button that asked for the end: there until the page is drawn, then on nothing
    const isAtEnd = this.#memory.ending && [end, document.body].includes(focused);
    const isFocusLost = isAtEnd || [cue, pause].some((element) => element.contains(focused));
    this.#cues.end();
    state.textContent = "ended";
    say(veil, "");
    this.#notices.lasting(sentence);
    say(this.#parts.problem, problem);
    for (const name of ["pause", "fork", "end", "share"]) this.#parts[name].disabled = true;
    dismiss.hidden = false;
    again.hidden = Boolean(this.first.without_pictures); // after a reload: the reader has them, the page does not
    again.textContent = this.#memory.watching ? "Watch again" : "Start again";
    if (isFocusLost) (again.hidden ? dismiss : again).focus({ preventScroll: true });
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
    const { clock, title, reading } = this.#parts;
    const time = this.#time;
    clock.textContent = `${time.toFixed(1)} s`;
    this.#notices.look();
    if (this.prompt && title.textContent !== this.prompt) title.textContent = this.prompt;
    const shown = this.#current?.reading;
    sayReading(reading, shown);
    reading.dataset.heard = heard(shown);
    this.#cues.shownUntil(time);
    this.#figures.show(this.#player, { last: this.#lastSegment, memory: this.#memory, isOver: this.over });
    if (!this.#settled && this.isDone) {
      this.#settled = true;
      this.#page.changed();
    }
  }
}
