// What is said, and how: sentences for what happens to a stream, and the ways to put a text on the page.

const ENDINGS = {
  completed: "The stream is complete.",
  client: "The stream has ended.",
  operator: "An operator has ended the stream.",
  drained: "The server shuts down; the stream has ended.",
  lost: "The server shuts down, and a worker was lost with the stream's last block.",
  failed: "The server could not go on with the stream.",
  access: "The token that began it has expired or was taken back; the stream has ended.",
  quota: "The quota of the day is used up; the stream has ended.",
  moved: "The stream goes on elsewhere: another connection has it.",
  abandoned: "Nobody was there for too long; the stream has ended.",
  orphaned: "The stream that this one was forked from ended too soon, and so this one has, too.",
};
/** What is another thing for who only watches. */
const WATCHED = {
  client: "The stream has ended: whoever began it has ended it.",
  access: "The stream has ended: the token that began it, or yours, has expired or was taken back.",
  quota: "The stream has ended: the quota of whoever began it is used up for this day.",
  moved: "The stream goes on at another server.",
  abandoned: "The stream has ended: whoever began it went away and did not come back.",
};
export const CONTINUITIES = {
  exact: () => "The stream goes on, exact: nothing is missing.",
  approximate: () => "The stream goes on: from here on alike, not the same.",
  restarted: ({ segment }) => `The stream goes on, and begins anew from segment ${segment} on.`,
};
const ADVICE = / (?:Try again in [^.]*|Choose pace fast)\.$/; // what the page offers with buttons, and counts down

/** Why a stream has ended, for who began it or who only watches. */
export function endingInWords({ ending, reason }, watching) {
  const text = (watching && WATCHED[ending]) || ENDINGS[ending] || "The stream has ended.";
  return reason ? `${text} ${reason}` : text;
}

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
