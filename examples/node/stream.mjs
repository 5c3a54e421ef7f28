// A client of Longtake in Node, from the .proto alone: opens a stream, sends cues, writes an mp4, says what happens.
//
//   node stream.mjs "a red ball circling in the fog" --cue "5=a blue box swaying at night" --seconds 10 -o out.mp4

import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../protos/longtake/v1/longtake.proto", import.meta.url));
// Field names as in the documentation; 64-bit numbers and enums as texts; of a `oneof` the name of what is set.
const READ = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const OPTIONS = {
  server: { type: "string", default: "127.0.0.1:50051" },
  seconds: { type: "string", default: "10" },
  seed: { type: "string" },
  cue: { type: "string", multiple: true, default: [] },
  output: { type: "string", short: "o", default: "out.mp4" },
};

// A google.protobuf.Duration.
function duration(option, text) {
  const seconds = Number(text);
  if (!(text.trim() && seconds >= 0 && seconds < 1e9)) fail(`${option}: ${text} is not allowed; allowed: seconds`);
  return { seconds: Math.floor(seconds), nanos: Math.floor((seconds % 1) * 1e9) };
}

// A cue from SECONDS=PROMPT. Its id is ours, and comes back with every answer to it.
function cue(text, number) {
  const [, time, prompt] = text.match(/^([^=]*)=(.+)$/s) ?? fail(`--cue: ${text} is not allowed; allowed: SECONDS=PROMPT`);
  return { id: `cue-${number + 1}`, prompt, time: duration("--cue", time) };
}

function fail(sentence) {
  console.error(`stream.mjs: ${sentence}`);
  process.exit(2);
}

// What was understood of a prompt, and what was not. Null where the model reads free text.
function reading(told) {
  if (!told) return "";
  const taken = told.defaulted.length ? `; taken instead: ${told.defaulted.join(", ")}` : "";
  const ignored = told.ignored.length ? `; ignored: ${told.ignored.join(", ")}` : "";
  return ` (understood: ${told.understood.join(", ") || "nothing"}${taken}${ignored})`;
}

// One line for a frame of the server.
function sentence({ frame, [frame]: told }) {
  switch (frame) {
    case "opened":
      return `opened ${told.session_id}, seed ${told.seed}: "${told.prompt}"${reading(told.reading)}`;
    case "segment":
      return `segment ${told.index}: ${told.picture_count} pictures`;
    case "cue_accepted":
      return `${told.cue_id} will take effect at block ${told.block}: "${told.prompt}"${reading(told.reading)}`;
    case "cue_applied":
      return `${told.cue_id} is shown from segment ${told.block} on`;
    case "request_refused":
      return `refused: ${told.cue_id || told.field} ${told.message}`;
    case "closed":
      return `closed: ${told.ending}, ${told.segments} segments`;
    default: // Servers may learn new frames; what is not known is shown as it is.
      return `${frame}: ${JSON.stringify(told)}`;
  }
}

// What was asked for on the command line.
function asked() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    return fail(error.message.split("\n")[0]);
  }
}

const { values, positionals } = asked();
if (positionals.length !== 1) fail("one PROMPT is wanted, in quotes");
const cues = values.cue.map(cue);
const length = duration("--seconds", values.seconds);

const { longtake } = grpc.loadPackageDefinition(loadSync(PROTO, READ));
// A server on this machine is not reached through a proxy; for one elsewhere use credentials.createSsl() and a token,
// as metadata `authorization: Bearer TOKEN` (docs/security.md).
const client = new longtake.v1.LongtakeService(values.server, grpc.credentials.createInsecure(), {
  "grpc.enable_http_proxy": 0,
});
const file = await open(values.output, "w").catch((error) => fail(`--output: ${error.message}`));
const call = client.Stream();

// The first Ctrl-C asks for the end, and what has begun still comes; the second does not wait for it.
process.once("SIGINT", () => {
  call.write({ close: {} });
  process.once("SIGINT", () => call.cancel());
});

call.write({ open: { prompt: positionals[0], duration: length, ...(values.seed && { seed: values.seed }) } });
try {
  for await (const answer of call) {
    const { frame } = answer;
    if (frame !== "segment" || answer.segment.part === 0) console.log(sentence(answer));
    if (frame === "opened") {
      await file.write(answer.opened.header);
      for (const one of cues) call.write({ cue: one }); // at any time: these say themselves when they take effect
    } else if (frame === "segment") {
      const { index, part, part_count: parts, data } = answer.segment; // large segments come in parts
      await file.write(data);
      // Only now is it consumed. Each acknowledgement lets a further block begin: a client that stops reading stops
      // its own stream, and nothing piles up anywhere.
      if (part === parts - 1) call.write({ ack: { segment: index } });
    } else if (frame === "closed") {
      call.end();
    }
  }
} catch (error) {
  console.error(`stream.mjs: ${grpc.status[error.code] ?? "error"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  await file.close();
  client.close();
}
