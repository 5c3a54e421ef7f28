// The pictures that a stream is given: which of them the chosen recipe takes, and their files as bytes that may be sent.

import { say } from "./texts.js";

const MAX_BYTES = 512 << 10;
const MAX_ALL_BYTES = 900 << 10;
const KINDS = [[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], [0xff, 0xd8, 0xff]]; // how a PNG and a JPEG begin
const SIDES = [1920, 1280, 832, 640, 480, 320];

/** The fields for pictures of the form that begins a stream. */
export class PictureFields {
  #given;
  #references;
  #recipe = null;

  /** Each of both is a field for files, its label, and the button that takes the choice back. */
  constructor({ given, references }) {
    [this.#given, this.#references] = [given, references];
    for (const parts of [given, references]) {
      parts.field.addEventListener("change", () => this.#offer());
      parts.none.addEventListener("click", () => { this.#forget(parts); parts.field.focus(); });
    }
  }

  /** Offer what this recipe takes. */
  show(recipe) {
    this.#recipe = recipe;
    const count = recipe.reference_frames;
    say(this.#references.label, count ? (count > 1 ? `${count} images it looks at` : "Image it looks at") : "");
    this.#references.field.multiple = count > 1;
    this.#offer();
  }

  #offer() {
    const takes = [[this.#given, this.#recipe?.max_given_pictures], [this.#references, this.#recipe?.reference_frames]];
    for (const [{ field, label, none }, most] of takes) {
      field.hidden = label.hidden = !most;
      none.hidden = !most || !field.files.length;
    }
  }

  #forget({ field }) {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    this.#offer();
  }

  /** The picture that was chosen to begin with is used up: the next stream begins without. */
  used() {
    this.#forget(this.#given);
  }

  /** What is wrong with what is chosen, by the names of the fields, as far as that is known before files are read. */
  get faults() {
    const count = this.#recipe?.reference_frames ?? 0;
    const chosen = this.#references.field.files.length;
    const image = `${count} image${count > 1 ? "s" : ""}`;
    const sentence = `${chosen || "no"} image${chosen === 1 ? "" : "s"} chosen; allowed: ${image}, at which every block of this recipe looks`;
    return [["given", ""], ["references", count && chosen !== count ? sentence : ""]];
  }

  /** The files in the fields that are offered. */
  get #files() {
    return [this.#given, this.#references].map(({ field }) => (field.hidden ? [] : [...field.files]));
  }

  /** Whether there are any. */
  get isChosen() {
    return this.#files.some((files) => files.length > 0);
  }

  /** The chosen pictures as bytes. Throws an Unfit. */
  async read() {
    const [given, references] = this.#files;
    const read = { given: await all("given", given), references: await all("references", references) };
    const size = [...read.given, ...read.references].reduce((sum, { length }) => sum + length, 0);
    if (size > MAX_ALL_BYTES) throw new Unfit("references", `${size >> 10} KiB together are too much; allowed: ${MAX_ALL_BYTES >> 10} KiB`);
    return read;
  }
}

/** A file that cannot be given, with the field that it was chosen in. */
export class Unfit extends Error {
  constructor(field, sentence) {
    super(sentence);
    this.field = field;
  }
}

function all(field, files) {
  return Promise.all(files.map(async (file) => {
    const bytes = await bytesOf(file);
    if (!bytes) throw new Unfit(field, `${file.name} is not allowed; allowed: a picture that this browser can show, best PNG or JPEG`);
    return bytes;
  }));
}

/** A file as it is, if it is a PNG or JPEG that is small enough, or made a JPEG that is; null if it is no picture. */
async function bytesOf(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return null;
  }
  try {
    if (file.size <= MAX_BYTES) {
      const bytes = new Uint8Array(await file.arrayBuffer());
      if (KINDS.some((kind) => kind.every((byte, place) => bytes[place] === byte))) return bytes;
    }
    return await smaller(picture);
  } finally {
    picture.close();
  }
}

async function smaller(picture) {
  const canvas = document.createElement("canvas");
  for (const side of SIDES) {
    const scale = Math.min(1, side / Math.max(picture.width, picture.height));
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    if (blob && blob.size <= MAX_BYTES) return new Uint8Array(await blob.arrayBuffer());
  }
  return null;
}
