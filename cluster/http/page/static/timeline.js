// Draws what workers do for a stream: a row for each step and one for the decoder, time to the right, now at the edge.
// Below stands which block was ready when, and which second of the stream begins with it.

const SPANS_S = [0.5, 2, 8, 30];
const LABEL_PX = 52;
const ROW_PX = 24;
const AXIS_PX = 20;
const TICK_PX = 72; // so far apart are the ticks at least
const EVERY = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const DIGIT_PX = 6;
const MAX_OPS = 2000;
const FRAME_MS = 50;
const CALM_FRAME_MS = 500; // for readers who asked their system for less motion
const GOLDEN_DEGREES = 137.5; // neighbouring blocks get hues far apart

const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export class Timeline {
  #canvas;
  #caption;
  #steps;
  #startOf; // the second of the stream that begins with a block
  #span_s = 8;
  #ops = [];
  #skew = Infinity; // this page's clock minus the server's, in seconds, as far as it was ever small
  #chosen = null;
  #pointer = null;
  #frame = 0;
  #drawn_ms = 0;
  #still_s = null;

  constructor(canvas, caption, recipe, fps) {
    this.#canvas = canvas;
    this.#caption = caption;
    this.madeBy(recipe, fps);
    canvas.addEventListener("pointermove", (event) => { this.#pointer = [event.offsetX, event.offsetY]; });
    canvas.addEventListener("pointerleave", () => { this.#pointer = null; this.#say(); });
    canvas.addEventListener("keydown", (event) => this.#step(event));
    canvas.addEventListener("blur", () => { this.#chosen = null; this.#say(); });
    this.#say();
    this.#frame = requestAnimationFrame((now_ms) => this.#tick(now_ms));
  }

  /** The stream is made by this recipe. */
  madeBy({ steps, first_block_pictures: first, block_pictures: each }, fps) {
    this.#steps = steps.length;
    this.#startOf = (block) => (block ? first + (block - 1) * each : 0) / fps;
    this.#canvas.style.height = `${this.#height()}px`;
    this.#canvas.width = 0; // so that its height follows
    this.#canvas.setAttribute("aria-label", `Ops of the stream by time: ${this.#steps} steps and the decoder. Arrow keys choose an op, + and - zoom.`);
  }

  add(ops) {
    for (const op of ops) {
      this.#ops.push(op);
      this.#skew = Math.min(this.#skew, performance.now() / 1000 - op.done_at_s);
    }
    if (this.#ops.length > MAX_OPS) this.#ops.splice(0, this.#ops.length - MAX_OPS);
  }

  /** Another server may tell from now on, and it has another clock. */
  restart() {
    this.#ops = [];
    this.#skew = Infinity;
    this.#chosen = null;
  }

  /** The stream has ended: stand still. */
  stop() {
    this.#still_s ??= this.#ops.length ? this.#ops.at(-1).done_at_s + 0.2 : 0;
  }

  explain(text) {
    if (!this.#ops.length) this.#caption.textContent = text;
  }

  dispose() {
    cancelAnimationFrame(this.#frame);
  }

  #height() {
    return (this.#steps + 1) * ROW_PX + AXIS_PX;
  }

  #tick(now_ms) {
    if (now_ms - this.#drawn_ms >= (calm.matches ? CALM_FRAME_MS : FRAME_MS)) {
      this.#drawn_ms = now_ms;
      this.#draw();
    }
    this.#frame = requestAnimationFrame((next_ms) => this.#tick(next_ms));
  }

  #draw() {
    const width = this.#canvas.clientWidth;
    if (!width) return; // folded away
    const height = this.#height();
    const ratio = window.devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.#canvas);
    const colours = { line: style.getPropertyValue("--line"), quiet: style.getPropertyValue("--quiet"), ink: style.getPropertyValue("--ink") };
    const now_s = this.#still_s ?? (this.#ops.length ? performance.now() / 1000 - this.#skew : 0);
    const scale = (width - LABEL_PX) / this.#span_s;
    const x = (at_s) => width - (now_s - at_s) * scale;
    this.#rows(pen, width, height, now_s, x, colours);
    let under = null;
    pen.save();
    pen.beginPath();
    pen.rect(LABEL_PX, 0, width - LABEL_PX, height);
    pen.clip();
    for (const op of this.#ops) {
      if (op.done_at_s < now_s - this.#span_s) continue;
      const box = this.#box(op, x);
      this.#op(pen, op, box, op === this.#chosen, colours);
      if (this.#pointer && inside(this.#pointer, box)) under = op;
    }
    pen.restore();
    if (this.#pointer) this.#say(under);
  }

  #rows(pen, width, height, now_s, x, colours) {
    pen.font = "11px ui-sans-serif, system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (let row = 0; row <= this.#steps; row++) {
      const top = row * ROW_PX;
      pen.fillStyle = colours.quiet;
      pen.fillText(row < this.#steps ? `step ${row}` : "decode", 0, top + ROW_PX / 2);
      pen.fillStyle = colours.line;
      pen.fillRect(LABEL_PX, top + ROW_PX - 1, width - LABEL_PX, 1);
    }
    pen.fillStyle = colours.quiet;
    pen.fillText("ready", 0, height - AXIS_PX / 2 + 1);
    this.#axis(pen, width, height, x, colours);
  }

  /** When blocks were ready: their number, and the second of the stream that begins with them. */
  #axis(pen, width, height, x, colours) {
    const ready = this.#ops.filter((op) => op.kind === "decode" && x(op.done_at_s) >= LABEL_PX && x(op.done_at_s) <= width);
    if (!ready.length) return;
    const gaps = ready.slice(1).map(({ done_at_s }, before) => x(done_at_s) - x(ready[before].done_at_s)).sort((one, other) => one - other);
    const apart_px = gaps.length ? gaps[Math.floor(gaps.length / 2)] : width;
    const every = EVERY.find((count) => count * apart_px >= TICK_PX) ?? EVERY.at(-1);
    let free_px = LABEL_PX;
    for (const { block, done_at_s } of ready) {
      const at = x(done_at_s);
      if (block % every || at < free_px) continue;
      pen.fillStyle = colours.line;
      pen.fillRect(at, 0, 1, height - AXIS_PX + 4);
      const label = `${block} · ${this.#startOf(block).toFixed(1)} s`;
      const wide = pen.measureText(label).width;
      if (at + 3 + wide > width) continue;
      pen.fillStyle = colours.quiet;
      pen.fillText(label, at + 3, height - AXIS_PX / 2 + 1);
      free_px = at + wide + 10;
    }
  }

  #box(op, x) {
    const row = op.kind === "decode" ? this.#steps : op.step;
    const begun_s = op.seconds > 0 ? Math.max(op.dispatched_at_s, op.done_at_s - op.seconds) : op.dispatched_at_s;
    const left = x(begun_s);
    const upper = op.kind === "decode" ? ROW_PX - 5 : (ROW_PX - 5) * 0.58;
    const top = row * ROW_PX + 2 + (op.kind === "commit" ? upper + 1 : 0);
    const height = op.kind === "commit" ? ROW_PX - 6 - upper : upper;
    return { left, top, width: Math.max(1.5, x(op.done_at_s) - left - 0.5), height, sent: x(op.dispatched_at_s) };
  }

  #op(pen, op, box, chosen, colours) {
    const hue = (op.block * GOLDEN_DEGREES) % 360;
    const colour = `hsl(${hue} ${dark.matches ? "48% 58%" : "52% 48%"} / ${op.kind === "commit" ? 0.55 : 1})`;
    pen.fillStyle = colour;
    pen.fillRect(box.left, box.top, box.width, box.height);
    pen.fillRect(box.sent, box.top + box.height / 2 - 0.5, Math.max(0, box.left - box.sent), 1); // waited at the worker
    if (op.kind !== "commit" && box.width > DIGIT_PX * String(op.block).length + 6) {
      pen.fillStyle = "#fff";
      pen.font = "10px ui-sans-serif, system-ui, sans-serif";
      pen.fillText(op.block, box.left + 3, box.top + box.height / 2 + 0.5);
    }
    if (chosen) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 1.5;
      pen.strokeRect(box.left - 1, box.top - 1, box.width + 2, box.height + 2);
    }
  }

  /** Show a longer or a shorter time. */
  zoom(by) {
    const at = SPANS_S.indexOf(this.#span_s) + by;
    this.#span_s = SPANS_S[Math.min(SPANS_S.length - 1, Math.max(0, at))];
    this.#say();
  }

  #step(event) {
    if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? -1 : 1);
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.#ops.length) return;
    event.preventDefault();
    const at = this.#ops.indexOf(this.#chosen);
    const next = at < 0 ? this.#ops.length - 1 : Math.min(this.#ops.length - 1, Math.max(0, at + by));
    this.#chosen = this.#ops[next];
    this.#say(this.#chosen);
  }

  #say(op = this.#chosen) {
    this.#caption.textContent = op ? sentence(op) : `The last ${this.#span_s} s; each colour is a block. In a step: denoise above, commit below. Ready: the block, and the second of the stream that it begins.`;
  }
}

function inside([x, y], { left, top, width, height }) {
  return x >= left - 1 && x <= left + width + 1 && y >= top && y <= top + height;
}

function sentence(op) {
  const what = op.kind === "decode" ? "decode" : `${op.kind} at step ${op.step}`;
  const waited_ms = Math.max(0, (op.done_at_s - op.dispatched_at_s - op.seconds) * 1000);
  const shared = op.batch > 1 ? `, in a forward with ${op.batch - 1} other${op.batch > 2 ? "s" : ""}` : "";
  return `Block ${op.block}, ${what}, on ${op.worker}: ${(op.seconds * 1000).toFixed(1)} ms${shared}; ${waited_ms.toFixed(1)} ms on the way and waiting.`;
}
