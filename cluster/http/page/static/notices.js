// The line under a stream that says what has happened to it: for a moment, for a while, or for good.

import { say } from "./texts.js";

const TELL_MS = 8000; // so long it is said what has happened

export class Notices {
  #element;
  #told_ms = -Infinity;
  #lasting = ""; // what stands there once the rest has been read

  constructor(element) {
    this.#element = element;
  }

  /** Say something until the next segment. */
  passing(text) {
    say(this.#element, text);
  }

  /** Say something that stays for a while. */
  happened(text) {
    this.#told_ms = performance.now();
    say(this.#element, text);
  }

  /** Say something until something else is said; `isBroken` marks it. */
  lasting(text, isBroken = false) {
    this.#lasting = text;
    this.#told_ms = -Infinity;
    this.#element.dataset.state = isBroken ? "broken" : "";
    say(this.#element, text);
  }

  /** What was said in passing is over. */
  segment() {
    if (performance.now() - this.#told_ms >= TELL_MS) say(this.#element, this.#lasting);
  }

  /** Time has passed. */
  look() {
    if (this.#told_ms < 0 || performance.now() - this.#told_ms < TELL_MS) return;
    this.#told_ms = -Infinity;
    say(this.#element, this.#lasting);
  }
}
