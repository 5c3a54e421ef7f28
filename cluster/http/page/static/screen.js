// The picture: as large as its place allows, small models' in whole multiples of their pixels; fullscreen, and as a file.

const SMALL_PX = 256; // narrower pictures are shown pixel by pixel
const SPARE_PX = 300; // what belongs to a picture and is seen with it: headings, buttons, the field for cues
const LEAST_PX = 240;
const BESIDE_PX = 720; // from this width on there is room beside a square picture
const DESK_PX = 290; // of which that takes so much at least
const WIDE = 1.25;

export class Screen {
  #screen;
  #theatre;
  #video;
  #width;
  #height;
  #watch;
  #fit = () => this.#resize();

  /** `theatre` is what fills the display in fullscreen; `screen` lies in it and holds the video. */
  constructor({ theatre, screen, video }, { width, height }) {
    this.#theatre = theatre;
    this.#screen = screen;
    this.#video = video;
    this.#watch = new ResizeObserver(() => requestAnimationFrame(this.#fit)); // what it changes is seen in the next frame
    this.#watch.observe(theatre.parentElement);
    addEventListener("resize", this.#fit);
    this.shape(width, height);
  }

  /** Pictures are so large. */
  shape(width, height) {
    [this.#width, this.#height] = [width, height];
    this.#video.dataset.pixels = width <= SMALL_PX ? "hard" : "smooth";
    this.#resize();
  }

  #resize() {
    const stage = this.#theatre.parentElement;
    const isFull = document.fullscreenElement === this.#theatre;
    const isBeside = this.#width / this.#height < WIDE && stage.clientWidth >= BESIDE_PX;
    const room = isFull
      ? [this.#screen.clientWidth, this.#screen.clientHeight]
      : [stage.clientWidth - (isBeside ? DESK_PX : 0), Math.max(LEAST_PX, innerHeight - SPARE_PX)];
    if (room[0] <= 0) return;
    const ratio = window.devicePixelRatio || 1;
    let scale = Math.min(room[0] / this.#width, room[1] / this.#height);
    if (this.#width <= SMALL_PX) scale = Math.max(1, Math.floor(scale * ratio)) / ratio;
    this.#video.style.width = `${this.#width * scale}px`;
    this.#video.style.height = `${this.#height * scale}px`;
    stage.dataset.beside = String(isBeside);
    if (!isFull) stage.style.setProperty("--picture", `${this.#width * scale}px`);
  }

  /** Fill the display, or no longer. */
  async toggleFull() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (this.#theatre.requestFullscreen) await this.#theatre.requestFullscreen();
    else this.#video.webkitEnterFullscreen?.(); // iPhones show nothing but videos
  }

  /** The picture that is shown now, as PNG; null if there is none yet. */
  async snapshot() {
    if (!this.#video.videoWidth) return null;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.#video.videoWidth, this.#video.videoHeight];
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Draw the picture small; whether there is one. */
  drawInto(canvas) {
    if (!this.#video.videoWidth || this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return false;
    const pen = canvas.getContext("2d");
    const side = Math.min(this.#video.videoWidth, this.#video.videoHeight);
    const [left, top] = [(this.#video.videoWidth - side) / 2, (this.#video.videoHeight - side) / 2];
    pen.imageSmoothingEnabled = this.#width > SMALL_PX;
    pen.drawImage(this.#video, left, top, side, side, 0, 0, canvas.width, canvas.height);
    return true;
  }

  dispose() {
    this.#watch.disconnect();
    removeEventListener("resize", this.#fit);
  }
}
