// The figures of a stream: how many pictures are made and shown, what is on the way, what is late.

import { Rates } from "./rates.js";

export class Figures {
  #parts;
  #rates;

  /** `parts` are those of the card. */
  constructor(parts, fps) {
    this.#parts = parts;
    this.#rates = new Rates(fps);
    this.slack(null);
  }

  /** A segment has come, in a window of so many. */
  came(duration_s, window) {
    this.#rates.note(duration_s, window);
  }

  /** Another connection: what came before does not count. */
  restart() {
    this.#rates.restart();
  }

  /** How long before it was due the newest segment left the server; null where nothing is due. */
  slack(slack_s) {
    this.#parts.slack.parentElement.hidden = slack_s === null;
    tell(this.#parts.slack, slack_s === null ? "–" : `${slack_s.toFixed(2)} s`);
  }

  /** Show what a player shows; `last` is the newest segment that came, -1 if none did. */
  show(player, { last, memory, isOver }) {
    const { lag, buffered, made, shown, stalls } = this.#parts;
    const isStill = isOver || player.isPaused;
    this.#rates.look(player.time, isStill);
    tell(lag, last < 0 ? "–" : `${last - (memory.cursor ?? -1)} of ${memory.window}`);
    tell(buffered, `${player.ahead.toFixed(1)} s`);
    tell(made, isStill ? "–" : inSeconds(this.#rates.made));
    tell(shown, isStill ? "–" : inSeconds(this.#rates.shown));
    tell(stalls, String(player.stalls));
  }
}

function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function inSeconds(rate) {
  return rate === null ? "–" : `${rate.toFixed(1)} /s`;
}
