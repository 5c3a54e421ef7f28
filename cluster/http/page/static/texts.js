// What is said, and how: sentences for what happens to a stream, and the ways to put a text on the page.

export const CONTINUITIES = {
  exact: () => "The stream goes on, exact: nothing is missing.",
  approximate: () => "The stream goes on: from here on alike, not the same.",
  restarted: ({ segment }) => `The stream goes on, and begins anew from segment ${segment} on.`,
};
const ADVICE = / (?:Try again in [^.]*|Choose pace fast)\.$/; // what the page offers with buttons, and counts down

/** A refusal for lack of room, in words and without the advice. */
export function refusalInWords({ sentence }) {
  return sentence.replace(ADVICE, "");
}

/** The named parts of a copy of a template. */
export function copyOf(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const element of root.querySelectorAll("[data-part]")) parts[element.dataset.part] = element;
  return { root, parts };
}

/** Show a sentence in an element, or hide it. What is said already is not said again, also by screen readers. */
export function say(element, sentence) {
  if (element.textContent !== sentence) element.textContent = sentence;
  element.hidden = !sentence;
}

/** Say what is wrong with a field, at the field, and go there; an empty sentence takes it back. */
export function complain(field, element, sentence) {
  say(element, sentence);
  if (!sentence) field.removeAttribute("aria-invalid");
  else {
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}

/** Seconds in a text: `12`, `1.5` or `1:30`; null if it is empty. Throws an Error that says what is allowed. */
export function seconds(field, text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  const found = /^(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)$/.exec(trimmed);
  if (!found) throw new Error(`${field}: '${trimmed}' is not allowed; allowed: seconds, such as 12 or 1.5, or 1:30`);
  const [, hours = 0, minutes = 0, rest] = found;
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}

/** What is wrong with a prompt before it is sent; empty if nothing is. */
export function faultOfPrompt(prompt, { max_prompt_bytes }) {
  if (!prompt.trim()) return "Say what to show: here is no text yet.";
  const bytes = new TextEncoder().encode(prompt).length;
  return bytes > max_prompt_bytes ? `${bytes} bytes are too long; allowed: 1 to ${max_prompt_bytes}` : "";
}

/** Say what a model takes a prompt for; nothing where it reads free text. */
export function sayReading(element, reading) {
  const known = [["not understood", reading?.ignored], ["understood", reading?.understood], ["taken instead", reading?.defaulted]];
  const parts = known.filter(([, found]) => found?.length).map(([name, found]) => [name, `${name}: ${found.map((text) => text.replace(": ", " ")).join(", ")}`]);
  const text = parts.map(([, part]) => part).join("; ");
  element.hidden = !text;
  if (element.textContent === text) return;
  element.replaceChildren(...parts.flatMap(([name, part], index) => {
    const span = document.createElement("span");
    span.className = name.replace(" ", "-");
    span.textContent = part;
    return index ? ["; ", span] : [span];
  }));
}

/** How much of a prompt was understood: all, part or none. */
export function heard(reading) {
  if (!reading?.ignored.length) return "all";
  return reading.understood.length ? "part" : "none";
}

/** Give the reader a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
