// The streams that have ended, a line each, so that they do not pile up; each can be begun again, saved, or taken away.

import { copyOf, say } from "./texts.js";

const MOST = 20;
const MOST_SAVED = 4; // so many recordings are kept

const at = (id) => document.getElementById(id);

export class Ended {
  #rows = []; // newest first
  #begin;

  /** `begin(first)` is called to begin a stream again. */
  constructor(begin) {
    this.#begin = begin;
    at("clear").addEventListener("click", () => {
      this.#rows = [];
      this.#show();
      at("prompt").focus();
    });
  }

  /** Put the line of a card in its place; `line` is what its `fold()` gives. */
  add({ title, sentence, first, picture, save }, isFocused) {
    const { root, parts } = copyOf("ended-row");
    parts.title.textContent = title;
    parts.sentence.textContent = sentence;
    if (picture) parts.thumb.replaceWith(picture);
    say(parts.again, first.without_pictures ? "" : first.type === "watch" ? "Watch again" : "Start again");
    parts.again.ariaLabel = `${parts.again.textContent}: ${title}`;
    parts.again.addEventListener("click", () => { this.#remove(root); this.#begin(first); });
    parts.dismiss.ariaLabel = `Remove ${title}`;
    parts.dismiss.addEventListener("click", () => {
      const next = root.nextElementSibling ?? root.previousElementSibling;
      this.#remove(root);
      (next?.querySelector("[data-part=dismiss]") ?? at("prompt")).focus();
    });
    parts.save.hidden = !save;
    parts.save.ariaLabel = `Save ${title}`;
    parts.save.addEventListener("click", () => this.#rows.find((row) => row.root === root)?.save?.());
    this.#rows = [{ root, parts, save }, ...this.#rows].slice(0, MOST);
    for (const row of this.#rows.slice(MOST_SAVED)) {
      row.save = null;
      row.parts.save.hidden = true;
    }
    this.#show();
    if (isFocused) (parts.again.hidden ? parts.dismiss : parts.again).focus();
  }

  #remove(root) {
    this.#rows = this.#rows.filter((row) => row.root !== root);
    this.#show();
  }

  #show() {
    at("ended-list").replaceChildren(...this.#rows.map(({ root }) => root));
    at("ended").hidden = !this.#rows.length;
  }
}
