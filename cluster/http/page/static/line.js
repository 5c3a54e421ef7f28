// The line to a stream: one connection, and another one whenever it breaks.

import { Connection } from "./api.js";

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
const FOR_MS = 120_000; // so long it is tried
const ATTEMPT_MS = 10_000; // an attempt that is not answered for so long has failed
const SILENCE_MS = 30_000; // a server that lives says so every 10 s
const PASSING = new Set(["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]); // refusals that may get better

export class Line {
  #memory;
  #tell;
  #connection = null;
  #outage = null; // until when it is tried, and how often it was
  #timer;
  #isOpened = false; // before, nobody listens to what is sent
  #isOver = false;
  #wentOffline = () => { if (this.#memory.again()) this.#lost(""); };
  #cameOnline = () => { if (this.#outage && !this.#connection) this.#dial(); };

  /**
   * `memory` says how to begin and how to go on. `message(message, bytes)` is told what comes, `broken()` that another
   * connection is tried, `over(reason)` that there will be none.
   */
  constructor(memory, tell) {
    this.#memory = memory;
    this.#tell = tell;
    if (memory.again()) this.#outage = outage();
    addEventListener("offline", this.#wentOffline);
    addEventListener("online", this.#cameOnline);
    this.#dial();
  }

  /** Send a frame. Before the stream is opened and while the line is broken nothing is: what counts is repeated by the memory. */
  send(frame) {
    if (this.#isOpened && !this.#outage) this.#connection?.send(frame);
  }

  close() {
    this.#isOver = true;
    removeEventListener("offline", this.#wentOffline);
    removeEventListener("online", this.#cameOnline);
    this.#hangUp();
  }

  #hangUp() {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
  }

  #dial() {
    clearTimeout(this.#timer);
    const connection = new Connection(this.#memory.again() ?? this.#memory.first, {
      message: (message, bytes) => { if (connection === this.#connection) this.#hear(message, bytes); },
      lost: (reason) => { if (connection === this.#connection) this.#lost(reason); },
    });
    this.#connection = connection;
    if (this.#outage) this.#await(ATTEMPT_MS);
  }

  /** A connection on which nothing comes for so long is lost. */
  #await(for_ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost("The server does not answer."), for_ms);
  }

  #hear(message, bytes) {
    if (!this.#outage && this.#memory.again()) this.#await(SILENCE_MS);
    if (message.type === "error" && PASSING.has(message.code) && this.#memory.again()) {
      this.#lost(message.sentence);
      return;
    }
    const least = message.type === "error" && this.#memory.again() ? message.least : null;
    if (least !== null && least > (this.#memory.cursor ?? -1)) { // a browser that crashed may have kept an older one
      this.#memory.passOver(least);
      this.#lost(message.sentence);
      return;
    }
    if (message.type === "error" || message.type === "closed") {
      clearTimeout(this.#timer);
      this.#isOver = true;
      this.#outage = null;
    }
    const begins = message.type === "opened" && (this.#outage !== null || !this.#isOpened);
    if (begins) {
      this.#isOpened = true;
      this.#outage = null;
    }
    this.#tell.message(message, bytes);
    if (!begins) return;
    if (this.#memory.again()) this.#await(SILENCE_MS);
    this.#memory.repetition().forEach((frame) => this.send(frame));
  }

  #lost(reason) {
    this.#hangUp();
    if (this.#isOver) return;
    const canGoOn = this.#memory.again() !== null;
    if (canGoOn && !this.#outage) {
      this.#outage = outage();
      this.#tell.broken();
    }
    if (canGoOn && performance.now() < this.#outage.until_ms) {
      this.#timer = setTimeout(() => this.#dial(), delay_ms(++this.#outage.attempt));
    } else {
      this.close();
      this.#tell.over(reason);
    }
  }
}

function outage() {
  return { until_ms: performance.now() + FOR_MS, attempt: 0 };
}

/** A little less or more, so that the pages of one server spread out. */
function delay_ms(attempt) {
  return Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS) * (0.75 + Math.random() / 2);
}
