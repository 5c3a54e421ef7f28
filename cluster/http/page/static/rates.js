// How many pictures a second are made and shown, and how often the video stood still.

const SHOWN_OVER_MS = 4000;
const JUMP_S = 0.5; // a video that is further than its clock has jumped
const LEAST_SEGMENTS = 4; // fewer say nothing

export class Rates {
  #fps;
  #came = []; // [when in ms, pictures]
  #looks = []; // [when in ms, second of the video]

  constructor(fps) {
    this.#fps = fps;
  }

  /** A segment has come; of the last `window` of them the rate is told. */
  note(duration_s, window) {
    this.#came.push([performance.now(), duration_s * this.#fps]);
    const most = Math.max(window, 2 * LEAST_SEGMENTS) + 1;
    if (this.#came.length > most) this.#came.shift();
  }

  /** Look at the video; while it is paused nothing is measured. */
  look(time_s, isPaused) {
    const now_ms = performance.now();
    const [before_ms, before_s] = this.#looks.at(-1) ?? [now_ms, time_s];
    const hasJumped = time_s < before_s || time_s - before_s > (now_ms - before_ms) / 1000 + JUMP_S;
    if (isPaused || hasJumped) this.#looks = [];
    if (!isPaused) this.#looks.push([now_ms, time_s]);
    while (this.#looks.length > 2 && this.#looks.at(-1)[0] - this.#looks[0][0] > SHOWN_OVER_MS) this.#looks.shift();
  }

  /** Another connection: what came before does not count. */
  restart() {
    this.#came = [];
  }

  /** Pictures made a second, from the arrival of one segment to that of another; null if too few have come. */
  get made() {
    if (this.#came.length <= LEAST_SEGMENTS) return null;
    const [[begun_ms], [ended_ms]] = [this.#came[0], this.#came.at(-1)];
    // A segment's pictures were made before it came: those of the first belong to the time before.
    const pictures = this.#came.slice(1).reduce((sum, [, count]) => sum + count, 0);
    return ended_ms > begun_ms ? (pictures * 1000) / (ended_ms - begun_ms) : null;
  }

  /** Pictures shown a second; null if the video does not play or has just begun to. */
  get shown() {
    if (this.#looks.length < 2) return null;
    const [[begun_ms, from_s], [ended_ms, until_s]] = [this.#looks[0], this.#looks.at(-1)];
    return ended_ms - begun_ms > SHOWN_OVER_MS / 2 ? ((until_s - from_s) * this.#fps * 1000) / (ended_ms - begun_ms) : null;
  }
}
