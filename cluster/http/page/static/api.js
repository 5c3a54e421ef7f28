// The way to the server: questions with the reader's token, and one WebSocket for each stream.

const TOKEN = "longtake.token";

/** The token that the reader gave, for this tab only. */
export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

export function keepToken(text) {
  sessionStorage.setItem(TOKEN, text);
}

/** What went wrong, as one sentence, and the name of its gRPC status. */
export class Refusal extends Error {
  constructor(sentence, code) {
    super(sentence);
    this.code = code;
  }
}

/** The address of something that this server answers; the page may be served below a path. */
export function address(path) {
  return new URL(path, document.baseURI);
}

/** The answer to a question, as an object. Throws Refusal; its code is "GONE" if there was no answer at all. */
export async function ask(path) {
  let response;
  try {
    response = await fetch(address(path), { headers: token() ? { authorization: `Bearer ${token()}` } : {} });
  } catch {
    throw new Refusal("The server does not answer.", "GONE");
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new Refusal(`The server's answer cannot be read (${response.status}).`, "UNKNOWN");
  }
  if (!response.ok) throw new Refusal(answer.sentence, answer.code);
  return answer;
}

const PIECE_BYTES = 48 << 10;

/** One stream's WebSocket. Messages come as (message, bytes); the bytes belong to `opened` and `segment`. */
export class Connection {
  #socket;
  #expecting = null;

  constructor(first, { message, lost }) {
    const place = address("api/stream");
    place.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    place.hash = "";
    this.#socket = new WebSocket(place);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#begin(first);
    this.#socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        const whole = this.#expecting;
        this.#expecting = null;
        if (whole) message(whole, data);
        return;
      }
      const told = JSON.parse(data);
      if (told.type === "opened" || told.type === "segment") this.#expecting = told;
      else message(told, null);
    };
    this.#socket.onclose = (event) => lost(event.reason);
  }

  /** The first frame, and the pictures that it gives, in pieces that a message may have. */
  #begin({ pictures = { given: [], references: [] }, ...first }) {
    const { given, references } = pictures;
    const sizes = { ...sizesOf("given_bytes", given), ...sizesOf("references_bytes", references) };
    this.send({ ...first, ...sizes, token: token() });
    for (const file of [...given, ...references]) {
      for (let start = 0; start < file.length; start += PIECE_BYTES) this.#socket.send(file.subarray(start, start + PIECE_BYTES));
    }
  }

  send(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  close() {
    this.#socket.close();
  }
}

function sizesOf(name, files) {
  return files.length ? { [name]: files.map(({ length }) => length) } : {};
}
