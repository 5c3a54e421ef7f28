// The words that a model knows as buttons, and prompts to begin with.

const BEFORE = { night: "at", dusk: "at", dawn: "at", fog: "in the", snow: "in the", rain: "in the" };
const JOINING = new Set(["at", "in", "the"]);
const SCENES = [
  "A lighthouse on a cliff in a storm, waves breaking over the rocks",
  "A red fox trots through fresh snow at first light",
  "A tram crosses a wide square in the rain, lamps reflected in the wet stones",
  "Slow flight over terraced rice fields in the morning mist",
  "A potter's hands shape a bowl on a turning wheel",
  "A glass whale swims between the towers of a city at night",
  "A campfire by a lake, sparks rising to the stars",
  "Steam rises from a cup of tea on a windowsill, autumn leaves outside",
];

const plain = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}-]/gu, "");
const phrase = (word) => (BEFORE[word] ? `${BEFORE[word]} ${word}` : word);
const any = (list) => list[Math.floor(Math.random() * list.length)];

/** A prompt that this model understands. */
export function anyPrompt(vocabulary) {
  return vocabulary.length ? `a ${vocabulary.map(({ words }) => phrase(any(words))).join(" ")}` : any(SCENES);
}

/** So many different ones. */
export function somePrompts(vocabulary, count) {
  const found = new Set();
  for (let tries = 0; found.size < count && tries < 100; tries++) found.add(anyPrompt(vocabulary));
  return [...found];
}

/** A text with a word in it, in the place of another of its kind. */
export function withWord(text, word, kind) {
  const words = text.split(/\s+/).filter(Boolean);
  const at = words.findIndex((other) => kind.includes(plain(other)));
  if (at < 0) return [...words, phrase(word)].join(" ");
  let from = at;
  if (BEFORE[plain(words[at])]) while (from > 0 && JOINING.has(words[from - 1].toLowerCase())) from--;
  const stop = /[.,;:!?]+$/.exec(words[at])?.[0] ?? "";
  words.splice(from, at - from + 1, phrase(word) + stop);
  return words.join(" ");
}

/** Fill `root` with a group of buttons for each kind of word; a button writes into `field`. `basis()` is what it begins with. */
export function offerWords(root, vocabulary, field, basis = () => "") {
  const buttons = [];
  const show = () => {
    const said = new Set(field.value.split(/\s+/).map(plain));
    for (const button of buttons) button.ariaPressed = String(said.has(button.textContent));
  };
  root.replaceChildren(...vocabulary.map(({ name, words }) => {
    const group = document.createElement("div");
    group.role = "group";
    group.ariaLabel = name;
    const made = words.map((word) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = word;
      button.addEventListener("click", () => {
        field.value = withWord(field.value.trim() || basis(), word, words);
        field.dispatchEvent(new Event("input", { bubbles: true }));
      });
      return button;
    });
    buttons.push(...made);
    group.append(...made);
    return group;
  }));
  field.addEventListener("input", show);
  field.form.addEventListener("reset", () => queueMicrotask(show));
  show();
}
