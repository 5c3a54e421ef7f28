// The cues of a stream: the field for them, and each of them sent, accepted, shown or refused, and what the model takes it for.

import { cueFrame } from "./memory.js";
import { complain, faultOfPrompt, heard, sayReading, seconds } from "./texts.js";
import { offerWords } from "./words.js";

const MOST_SHOTS = 16; // the server remembers so many

export class Cues {
  #memory;
  #model;
  #send;
  #form;
  #problem;
  #change;
  #cut;
  #back;
  #list;
  #items = new Map(); // the list items, by id

  /** `parts` are those of the card; `send(frame)` asks for a cue; `prompt()` is the one on the screen. */
  constructor({ cue, cueProblem, change, cut, back, words, cues }, { memory, model, send, prompt }) {
    [this.#form, this.#problem, this.#change, this.#list] = [cue, cueProblem, change, cues];
    [this.#memory, this.#model, this.#send, this.#cut, this.#back] = [memory, model, send, cut, back];
    cue.addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    cue.addEventListener("input", ({ target }) => { if (target.hasAttribute("aria-invalid")) complain(target, cueProblem, ""); });
    cue.elements.back.addEventListener("change", () => this.#goBack());
    for (const field of [this.#field, cue.elements.time]) field.setAttribute("aria-describedby", cueProblem.id);
    offerWords(words, model.vocabulary, this.#field, () => [...memory.cues.values()].at(-1)?.prompt ?? prompt());
    cue.hidden = memory.watching;
    change.hidden = memory.watching || !model.vocabulary.length;
    for (const id of memory.cues.keys()) this.#show(id);
  }

  get #field() {
    return this.#form.elements.prompt;
  }

  /** What the field holds. */
  get draft() {
    return this.#field.value.trim();
  }

  /** Whether the recipe of the stream lets a cue begin a new shot. */
  canCut(can) {
    this.#cut.hidden = !can;
    this.#offerShots();
  }

  /** A segment of this shot has come, which begins then. */
  shot(number, start_s) {
    const { shots } = this.#memory;
    if (shots.at(-1)?.number >= number) return;
    shots.push({ number, start_s });
    this.#memory.save();
    this.#offerShots();
  }

  /** The prompt that a shot began with, as far as it is known here. */
  #promptOf(number) {
    const shot = this.#memory.shots.find((known) => known.number === number);
    return shot ? (this.#memory.prompts.findLast(({ start_s }) => start_s <= shot.start_s + 0.01)?.prompt ?? "") : "";
  }

  /** The earlier shots, the newest first; the server remembers so many. */
  #offerShots() {
    const current = this.#memory.shots.at(-1)?.number ?? 0;
    const menu = this.#form.elements.back;
    this.#back.hidden = this.#cut.hidden || !current;
    const numbers = Array.from({ length: Math.min(current, MOST_SHOTS) }, (_, place) => current - 1 - place);
    const chosen = menu.value;
    const shots = numbers.map((number) => new Option(`shot ${number}${this.#promptOf(number) && `: ${this.#promptOf(number)}`}`, number, false, String(number) === chosen));
    menu.replaceChildren(new Option("no earlier shot", "", false, !chosen), ...shots);
  }

  /** Whoever goes back goes on with the prompt of that shot, unless another one is there; it is a new shot. */
  #goBack() {
    const { back, cut, prompt } = this.#form.elements;
    cut.disabled = back.value !== "";
    cut.checked = cut.disabled;
    if (cut.disabled && !prompt.value.trim()) prompt.value = this.#promptOf(Number(back.value));
  }

  focus() {
    this.#field.focus({ preventScroll: true });
  }

  #submit() {
    const { prompt, time, cut, back } = this.#form.elements;
    for (const field of [prompt, time]) complain(field, this.#problem, "");
    const fault = faultOfPrompt(prompt.value, this.#model);
    if (fault) return complain(prompt, this.#problem, fault);
    let time_s;
    try {
      time_s = seconds("at", time.value);
    } catch (error) {
      return complain(time, this.#problem, error.message);
    }
    const id = `cue-${++this.#memory.cueCount}`;
    const back_to_shot = back.value === "" ? null : Number(back.value);
    const cue = { prompt: prompt.value, time_s, cut: cut.checked, back_to_shot, state: "sent", text: "sent" };
    this.#memory.cues.set(id, cue);
    this.#memory.save();
    this.#show(id);
    this.#send(cueFrame(id, cue));
    this.#form.reset();
    cut.disabled = false;
    this.focus();
  }

  has(id) {
    return this.#memory.cues.has(id);
  }

  // What is said of cues may come again after the connection broke.

  accepted({ id, start_s, block, reading }) {
    const cue = this.#memory.cues.get(id);
    if (cue?.state !== "sent") return;
    Object.assign(cue, { reading, start_s });
    this.mark(id, "accepted", `at ${start_s.toFixed(1)} s, block ${block}`);
  }

  applied({ id, start_s, prompt, reading }) {
    const { cues, prompts } = this.#memory;
    if (prompts.some((known) => known.id === id)) return;
    prompts.push({ prompt: prompt || (cues.get(id)?.prompt ?? ""), start_s, id, reading });
    const cue = cues.get(id);
    if (cue) Object.assign(cue, { reading: reading ?? cue.reading, start_s });
    this.mark(id, "applied", `comes at ${start_s.toFixed(1)} s`);
  }

  superseded({ id, by }) {
    this.mark(id, "superseded", `gave way to ${this.#memory.cues.get(by)?.prompt ?? by}`);
  }

  /** So far the video has come: what begins by then is shown. */
  shownUntil(time_s) {
    const current = this.#memory.prompts.findLast(({ start_s }) => start_s <= time_s)?.id;
    for (const { id, start_s } of this.#memory.prompts) {
      if (id && start_s <= time_s) this.mark(id, "shown", `shown since ${start_s.toFixed(1)} s`);
    }
    for (const [id, item] of this.#items) {
      item.dataset.current = String(id === current);
      const { state, start_s } = this.#memory.cues.get(id);
      const wait_s = start_s - time_s;
      const isComing = (state === "accepted" || state === "applied") && wait_s > 0 && wait_s < 3600;
      const soon = isComing ? `in ${wait_s.toFixed(wait_s < 10 ? 1 : 0)} s` : "";
      const element = item.querySelector(".soon");
      if (element.textContent !== soon) element.textContent = soon;
    }
  }

  /** The stream has ended: what has not come does not come, and nothing more is asked for. */
  end() {
    this.#form.hidden = this.#change.hidden = true;
    for (const [id, { state }] of this.#memory.cues) {
      if (state === "sent" || state === "accepted") this.mark(id, "superseded", "the stream ended before");
    }
  }

  mark(id, state, text) {
    const cue = this.#memory.cues.get(id);
    if (!cue || (cue.state === state && cue.text === text)) return;
    Object.assign(cue, { state, text });
    this.#memory.save();
    this.#fill(this.#items.get(id), cue);
  }

  /** Put a cue into the list. */
  #show(id) {
    const item = document.createElement("li");
    for (const name of ["asked", "soon", "state", "reading"]) {
      const span = document.createElement("span");
      span.className = name;
      item.append(span, " ");
    }
    this.#fill(item, this.#memory.cues.get(id));
    this.#list.prepend(item);
    this.#list.hidden = false;
    this.#items.set(id, item);
  }

  #fill(item, { prompt, state, text, reading }) {
    item.dataset.state = state;
    item.dataset.heard = heard(reading);
    const told = { asked: prompt, state: text };
    sayReading(item.querySelector(".reading"), reading);
    for (const [name, value] of Object.entries(told)) item.querySelector(`.${name}`).textContent = value;
  }
}
