// A stream for which there was no room: it is tried again after the time that the server names, or sooner or otherwise.

import { refusalInWords, say } from "./texts.js";

export class Room {
  #parts;
  #asked;
  #until_ms;
  #timer;
  #listening = new AbortController();

  /** `begin(first)` tries again, with the frame of this stream or another; `parts` are those of its card. */
  constructor(parts, { refusal, first, begin }) {
    const { retry_after_s = null, fast_instead = false } = refusal;
    this.#parts = parts;
    this.#asked = () => { this.dispose(); begin(first); };
    this.#until_ms = retry_after_s === null ? Infinity : performance.now() + retry_after_s * 1000;
    parts.room.hidden = false;
    parts.again.hidden = true;
    parts.dismiss.textContent = "Give up";
    parts.roomNow.after(parts.dismiss);
    say(parts.roomSentence, refusalInWords(refusal));
    parts.roomFast.hidden = !fast_instead;
    parts.roomWait.hidden = retry_after_s === null; // waiting does not help
    const { signal } = this.#listening;
    parts.roomNow.addEventListener("click", this.#asked, { signal });
    parts.roomFast.addEventListener("click", () => { this.dispose(); begin({ ...first, pace: "fast" }); }, { signal });
    this.#timer = setInterval(() => this.#count(), 250);
    this.#count();
  }

  focus() {
    const { roomFast, roomNow } = this.#parts;
    (roomFast.hidden ? roomNow : roomFast).focus({ preventScroll: true });
  }

  #count() {
    const left_s = Math.ceil((this.#until_ms - performance.now()) / 1000);
    if (left_s > 0) this.#parts.roomCount.textContent = String(left_s);
    else this.#asked();
  }

  dispose() {
    clearInterval(this.#timer);
    this.#listening.abort();
  }
}
