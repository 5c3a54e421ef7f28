// Plays a stream through Media Source Extensions, in constant memory, and tells which segments have been shown.

const KEEP_BEHIND_S = 8;
const TRIM_EVERY_S = 8;
const LOOK_EVERY_MS = 100;
const NEAR_S = 0.08; // the last picture of a segment is on the screen for about so long
const STUCK_S = 0.3; // where playback may stop before a gap

/** Where a stream's bytes go; iPhones have the managed kind only. */
const Source = () => window.MediaSource ?? window.ManagedMediaSource;

export class Player {
  #video;
  #shown;
  #failed;
  #source = null;
  #buffer = null;
  #url = "";
  #waiting = []; // bytes to append, each with its segment (none for the header)
  #appended = []; // segments in the buffer that have not been shown
  #begun = false;
  #ending = false;
  #stalls = 0;
  #timer;

  /** `shown(segment)` is called for each segment, in order. */
  constructor(video, { shown, failed }) {
    this.#video = video;
    this.#shown = shown;
    this.#failed = failed;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    video.addEventListener("timeupdate", () => this.#look()); // timers of hidden tabs are slow
    video.addEventListener("waiting", () => { if (this.#begun && !video.seeking && !this.#ending && this.ahead < STUCK_S) this.#stalls++; });
    video.addEventListener("error", () => this.#source && failed(video.error?.message || "the video cannot be decoded"));
  }

  get isOpen() {
    return this.#source !== null;
  }

  /** Whether it stands where there is something to show. */
  get isPlaced() {
    return this.#begun;
  }

  open(mediaType, header) {
    const Kind = Source();
    if (!Kind?.isTypeSupported(mediaType)) {
      this.#failed(Kind ? `this browser does not play ${mediaType}` : "this browser plays no streams: it has no Media Source Extensions");
      return;
    }
    this.#source = new Kind();
    this.#video.disableRemotePlayback = true; // the managed kind asks for it
    this.#waiting.push({ bytes: header, segment: null });
    this.#source.addEventListener("sourceopen", () => {
      this.#buffer = this.#source.addSourceBuffer(mediaType);
      this.#buffer.addEventListener("updateend", () => this.#work());
      this.#work();
    }, { once: true });
    this.#url = URL.createObjectURL(this.#source);
    this.#video.src = this.#url;
  }

  append(segment, bytes) {
    this.#waiting.push({ bytes, segment });
    this.#work();
  }

  /** No further segment comes. */
  finish() {
    this.#ending = true;
    this.#work();
  }

  play() {
    this.#video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#failed("this browser plays no video without being asked: press Play");
    });
  }

  pause() {
    this.#video.pause();
  }

  /** How often the video stood still because nothing had come. */
  get stalls() {
    return this.#stalls;
  }

  /** Whether all that came has been shown, and no more comes. */
  get isDone() {
    return this.#ending && !this.#waiting.length && (!this.#begun || this.#video.ended || this.ahead < NEAR_S);
  }

  get isPaused() {
    return this.#video.paused;
  }

  /** Give everything back. */
  dispose() {
    clearInterval(this.#timer);
    this.#source = this.#buffer = null;
    this.#waiting = [];
    this.#video.removeAttribute("src");
    this.#video.load();
    URL.revokeObjectURL(this.#url);
  }

  get time() {
    return this.#video.currentTime;
  }

  /** Seconds that are still to be shown. */
  get ahead() {
    const ranges = this.#video.buffered;
    return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - this.#video.currentTime) : 0;
  }

  #work() {
    if (!this.#buffer || this.#buffer.updating || this.#source.readyState === "closed") return;
    if (this.#trim(KEEP_BEHIND_S, TRIM_EVERY_S)) return;
    const next = this.#waiting[0];
    if (!next) {
      if (this.#ending && this.#source.readyState === "open") this.#source.endOfStream();
      return;
    }
    try {
      this.#buffer.appendBuffer(next.bytes);
    } catch (error) {
      // Full: what was shown goes; if that is nothing, the next look tries again.
      if (error.name === "QuotaExceededError") this.#trim(1, 0);
      else this.#failed(error.message);
      return;
    }
    this.#waiting.shift();
    if (next.segment) this.#appended.push(next.segment);
  }

  /** Forget what was shown more than `keep_s` ago, if that is `worth_s` or more; whether there was something. */
  #trim(keep_s, worth_s) {
    const ranges = this.#video.buffered;
    const until = this.#video.currentTime - keep_s;
    if (!ranges.length || until - ranges.start(0) <= worth_s) return false;
    this.#buffer.remove(0, until);
    return true;
  }

  #look() {
    if (!this.#buffer) return;
    this.#work();
    this.#place();
    while (this.#appended.length) {
      const { start_s, duration_s } = this.#appended[0];
      // Whoever starves for more has shown all it has, as far as it can.
      if (this.#begun && (start_s + duration_s <= this.#video.currentTime + NEAR_S || this.#starves)) {
        this.#shown(this.#appended.shift());
      } else break;
    }
  }

  /** Whether the video would go on and has nothing to go on with. */
  get #starves() {
    const { paused, seeking, readyState } = this.#video;
    return !paused && !seeking && readyState < HTMLMediaElement.HAVE_FUTURE_DATA && !this.#waiting.length && !this.#buffer.updating;
  }

  /** Stand where there is something to show: at the beginning, and after a gap, which is what an observer missed. */
  #place() {
    const { buffered, currentTime, seeking } = this.#video;
    if (!buffered.length || seeking) return;
    const starts = Array.from({ length: buffered.length }, (_, range) => buffered.start(range));
    if (!this.#begun) {
      this.#begun = true;
      if (currentTime < starts[0]) this.#video.currentTime = starts[0];
      return;
    }
    const next = starts.findIndex((start) => start > currentTime);
    const end_s = next > 0 ? buffered.end(next - 1) : 0;
    if (next >= 0 && (currentTime >= end_s - NEAR_S || (this.#starves && currentTime >= end_s - STUCK_S))) {
      this.#video.currentTime = starts[next];
    }
  }
}
