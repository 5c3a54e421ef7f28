// What was received of a stream, kept so that it can be saved: the header and the newest segments make a whole file.

const MOST_BYTES = 256 * 1024 * 1024;
const HOLDERS = new Set(["moof", "traf"]);

export class Recording {
  #header = null;
  #type = "";
  #segments = []; // {blob, times: [{at, value}], duration_s}
  #bytes = 0;

  /** Begin with a stream's header; the one of another connection is the same. */
  open(mediaType, header) {
    this.#type = mediaType.split(";")[0];
    this.#header ??= new Blob([header]);
  }

  /** Take a segment; when there is too much, the oldest go. Blobs need not stay in memory. */
  add({ duration_s }, bytes) {
    this.#segments.push({ blob: new Blob([bytes]), times: timesOf(bytes), duration_s });
    this.#bytes += bytes.byteLength;
    while (this.#bytes > MOST_BYTES && this.#segments.length > 1) this.#bytes -= this.#segments.shift().blob.size;
  }

  /** How many seconds there are. */
  get seconds() {
    return this.#segments.reduce((sum, { duration_s }) => sum + duration_s, 0);
  }

  /** A file that begins at 0, whatever the time of its first segment in the stream. */
  file() {
    const first = this.#segments[0]?.times[0]?.value ?? 0n;
    const pieces = this.#segments.flatMap(({ blob, times }) => {
      const parts = [];
      let from = 0;
      for (const { at, value } of times) {
        const moved = new DataView(new ArrayBuffer(8));
        moved.setBigUint64(0, value - first);
        parts.push(blob.slice(from, at), moved.buffer);
        from = at + 8;
      }
      return [...parts, blob.slice(from)];
    });
    return new Blob([this.#header, ...pieces], { type: this.#type });
  }
}

/** Where in a segment of MP4 decode times stand (`tfdt`, version 1), and what they are. */
function timesOf(bytes) {
  const view = new DataView(bytes);
  const found = [];
  const look = (from, until) => {
    for (let at = from; at + 8 <= until;) {
      const size = view.getUint32(at);
      const kind = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5), view.getUint8(at + 6), view.getUint8(at + 7));
      if (size < 8) return;
      if (HOLDERS.has(kind)) look(at + 8, Math.min(until, at + size));
      if (kind === "tfdt" && view.getUint8(at + 8) === 1) found.push({ at: at + 12, value: view.getBigUint64(at + 12) });
      at += size;
    }
  };
  look(0, view.byteLength);
  return found;
}
