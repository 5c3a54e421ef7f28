// What one does with a stream's pictures: fullscreen, a picture or the video as a file, a link for others.

import { Recording } from "./recording.js";
import { download } from "./texts.js";

export class Tools {
  #parts;
  #memory;
  #screen;
  #time;
  #tell;
  #recording = new Recording();

  /** `parts` are those of the card; `time()` is the second that is shown; `tell(sentence)` says what was done. */
  constructor(parts, { memory, screen, time, tell }) {
    [this.#parts, this.#memory, this.#screen, this.#time, this.#tell] = [parts, memory, screen, time, tell];
    parts.full.addEventListener("click", () => this.toggleFull());
    parts.snap.addEventListener("click", () => this.snap());
    parts.share.addEventListener("click", () => this.#share());
    parts.save.addEventListener("click", () => {
      this.saving();
      tell(`${this.#recording.seconds.toFixed(1)} s were saved: what was received so far.`);
    });
  }

  opened({ media_type }, header) {
    this.#recording.open(media_type, header);
    this.#parts.share.disabled = false;
  }

  received(segment, bytes) {
    this.#recording.add(segment, bytes);
    this.#parts.save.disabled = this.#parts.snap.disabled = false;
  }

  get #name() {
    return `longtake-${this.#memory.sessionId.slice(0, 8)}`;
  }

  toggleFull() {
    this.#screen.toggleFull().catch(() => this.#tell("This browser shows nothing in fullscreen here."));
  }

  /** Save the picture on the screen. */
  async snap() {
    const picture = await this.#screen.snapshot();
    if (!picture) return;
    download(picture, `${this.#name}-${this.#time().toFixed(1)}s.png`);
    this.#tell("The picture was saved.");
  }

  /** What saves the video, as far as it was received; null if nothing was. It needs the card no longer. */
  get saving() {
    const [recording, name] = [this.#recording, this.#name];
    return recording.seconds ? () => download(recording.file(), `${name}.mp4`) : null;
  }

  async #share() {
    const link = new URL(`#session=${this.#memory.sessionId}`, location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      this.#tell("The link is copied: whoever opens it watches, as far as this server lets them.");
    } catch {
      this.#tell(`Whoever opens this link watches: ${link}`);
    }
  }
}
