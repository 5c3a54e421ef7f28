// Plays a stream through Media Source Extensions, in constant memory, and tells which segments have been shown.

const KEEP_BEHIND_S = 8;
const TRIM_EVERY_S = 8;
const LOOK_EVERY_MS = 100;
const NEAR_S = 0.08; // the last picture of a segment is on the screen for about so long
const FAR_AHEAD_S = 6; // an observer who is further behind than this goes to what is newest

export class Player {
  #video;
  #shown;
  #failed;
  #follow;
  #source = null;
  #buffer = null;
  #url = "";
  #waiting = []; // bytes to append, each with its segment (none for the header)
  #appended = []; // segments in the buffer that have not been shown
  #begun = false;
  #ending = false;
  #timer;

  /** `follow`: an observer, who goes to the newest when behind. `shown(index)` is called for each segment, in order. */
  constructor(video, { follow, shown, failed }) {
    this.#video = video;
    this.#follow = follow;
    this.#shown = shown;
    this.#failed = failed;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    video.addEventListener("timeupdate", () => this.#look()); // timers of hidden tabs are slow
    video.addEventListener("error", () => this.#source && failed(video.error?.message || "the video cannot be decoded"));
  }

  open(mediaType, header) {
    if (!window.MediaSource?.isTypeSupported(mediaType)) {
      this.#failed(`this browser does not play ${mediaType}`);
      return;
    }
    this.#source = new MediaSource();
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
    const time = this.#video.currentTime;
    const starving = !this.#video.paused && !this.#video.seeking && this.#video.readyState < 3 && !this.#waiting.length && !this.#buffer.updating;
    while (this.#appended.length) {
      const { index, start_s, duration_s } = this.#appended[0];
      // Whoever starves for more has shown all it has, as far as it can.
      if (this.#begun && (start_s + duration_s <= time + NEAR_S || starving)) {
        this.#appended.shift();
        this.#shown(index);
      } else break;
    }
  }

  /** Stand where there is something to show: at the beginning, after a gap, and not far behind as an observer. */
  #place() {
    const { buffered, currentTime, seeking } = this.#video;
    if (!buffered.length || seeking) return;
    if (!this.#begun) {
      this.#begun = true;
      if (currentTime < buffered.start(0)) this.#video.currentTime = buffered.start(0);
      return;
    }
    const last = buffered.length - 1;
    if (this.#follow && !this.#video.paused && buffered.end(last) - currentTime > FAR_AHEAD_S) {
      this.#video.currentTime = Math.max(buffered.start(last), buffered.end(last) - 1);
      return;
    }
    for (let range = 0; range <= last; range++) {
      if (currentTime < buffered.start(range) && (range === 0 || currentTime >= buffered.end(range - 1) - NEAR_S)) {
        this.#video.currentTime = buffered.start(range);
        return;
      }
    }
  }
}
