// The form that begins a stream: what was typed becomes a first frame, or a sentence at the field that is wrong.

import { PictureFields, Unfit } from "./pictures.js";
import { RecipeMenu } from "./recipes.js";
import { complain, faultOfPrompt, say, seconds } from "./texts.js";
import { anyPrompt, offerWords, somePrompts } from "./words.js";

const SUGGESTIONS = 3;
const at = (id) => document.getElementById(id);

/** A field for files with what belongs to it. */
function fieldOf(name) {
  return { field: at(name), label: at(`${name}-label`), none: at(`${name}-none`) };
}

export class NewStream {
  #form = at("new");
  #begin;
  #model = null;
  #isReading = false; // files, for a stream that is about to begin
  #pictures = new PictureFields({ given: fieldOf("given"), references: fieldOf("references") });
  #recipes = new RecipeMenu({ menu: at("recipe"), label: at("recipe-label"), help: at("recipe-help") }, (recipe) => this.#offer(recipe));

  /** `begin(first)` is called with the frame that opens a stream. */
  constructor(begin) {
    this.#begin = begin;
    this.#form.addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    this.#form.addEventListener("input", ({ target }) => this.#complain(target.name, ""));
    at("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#form.requestSubmit();
      }
    });
    at("surprise").addEventListener("click", () => {
      at("prompt").value = anyPrompt(this.#model.vocabulary);
      at("prompt").dispatchEvent(new Event("input", { bubbles: true }));
      this.#form.requestSubmit();
    });
  }

  /** This is what is served. */
  show(model) {
    this.#model = model;
    this.#recipes.show(model);
    say(at("prompt-help"), model.prompt_help);
    offerWords(at("vocabulary"), model.vocabulary, at("prompt"));
    at("known").hidden = !model.vocabulary.length;
    at("presets").replaceChildren(...somePrompts(model.vocabulary, SUGGESTIONS).map((prompt) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = prompt;
      button.addEventListener("click", () => {
        at("prompt").value = prompt;
        at("prompt").dispatchEvent(new Event("input", { bubbles: true }));
        at("prompt").focus();
      });
      return button;
    }));
    at("start").disabled = at("surprise").disabled = false;
  }

  #offer(recipe) {
    this.#pictures.show(recipe);
    for (const name of ["given", "references"]) this.#complain(name, "");
  }

  #submit() {
    if (!this.#model || this.#isReading) return;
    const { prompt, pace, seed, duration, window } = this.#form.elements;
    const faults = [
      ["prompt", faultOfPrompt(prompt.value, this.#model)],
      ["seed", faultOfSeed(seed.value.trim())],
      ["duration", faultOfLength(duration.value)],
      ["window", faultOfWindow(window.value.trim(), this.#model.max_window)],
      ...this.#pictures.faults,
    ];
    for (const [name, sentence] of faults.toReversed()) this.#complain(name, sentence); // the first is where one goes
    if (faults.some(([, sentence]) => sentence)) return;
    const length_s = seconds("length", duration.value);
    const first = {
      type: "open",
      prompt: prompt.value,
      pace: pace.value,
      ...this.#recipes.asked,
      ...(seed.value.trim() ? { seed: seed.value.trim() } : {}),
      ...(length_s === null ? {} : { duration_s: length_s }),
      ...(window.value.trim() ? { window: Number(window.value) } : {}),
    };
    if (this.#pictures.isChosen) this.#beginWith(first);
    else this.#start(first);
  }

  #start(first) {
    this.#begin(first);
    this.#pictures.used();
    at("prompt").value = "";
    at("prompt").dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Begin with the pictures that were chosen, or say which of them cannot be given. */
  async #beginWith(first) {
    this.#isReading = true;
    try {
      this.#start({ ...first, pictures: await this.#pictures.read() });
    } catch (error) {
      if (!(error instanceof Unfit)) throw error;
      this.#complain(error.field, error.message);
    } finally {
      this.#isReading = false;
    }
  }

  #complain(name, sentence) {
    const field = this.#form.elements[name];
    const element = this.#form.querySelector(`[data-problem=${name}]`);
    if (!element) return;
    if (sentence) for (let around = field.closest("details"); around; around = null) around.open = true;
    complain(field, element, sentence);
  }
}

function faultOfSeed(text) {
  const isAllowed = !text || (/^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n);
  return isAllowed ? "" : `seed: '${text}' is not allowed; allowed: 0 to 2^64 - 1, or nothing for a drawn one`;
}

function faultOfLength(text) {
  try {
    return seconds("length", text) === 0 ? "length: 0 is not allowed; allowed: more than 0 s, or nothing for a stream without end" : "";
  } catch (error) {
    return error.message;
  }
}

function faultOfWindow(text, most) {
  const isAllowed = !text || (/^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= most);
  return isAllowed ? "" : `buffer: '${text}' is not allowed; allowed: 1 to ${most} segments, or nothing`;
}
