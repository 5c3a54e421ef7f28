// The page as a whole: what is served, what runs, and the streams that are open here.

import { ask, keepToken } from "./api.js";
import { Card } from "./card.js";
import { Ended } from "./ended.js";
import { NewStream } from "./form.js";
import { listenToKeys } from "./keys.js";
import { Memory } from "./memory.js";
import { Running } from "./running.js";
import { say } from "./texts.js";

const POLL_MS = 1000;
const LINKED = /^#session=([\w.-]{1,256})$/;

const at = (id) => document.getElementById(id);
const cards = new Set(); // the newest last
let model = null;
let isEmpty = null; // whether no stream is on the page
let isAsking = false; // whether who leaves the page is asked first

const page = {
  fork(card) {
    const prompt = card.draft || card.prompt;
    const { pace = "realtime", seed, window } = card.first;
    begin({ type: "open", prompt, pace, ...(seed ? { seed } : {}), ...(window ? { window } : {}), fork: card.sessionId });
  },
  begin,
  refused(code) {
    if (code === "UNAUTHENTICATED") askWho();
  },
  changed() {
    settle();
    poll();
  },
  gone(card) {
    cards.delete(card);
    if (card.first.type === "watch" && linked() === card.sessionId) history.replaceState(null, "", location.pathname + location.search);
    settle();
  },
};

/** Open a stream with its first frame, in the place of a card if there is one. */
function begin(first, instead = null) {
  const isHere = !instead || instead.root.contains(document.activeElement); // else the reader is busy elsewhere
  const card = place(new Memory(first), instead);
  if (first.type === "watch") history.replaceState(null, "", `#session=${first.session_id}`);
  if (isHere) card.reveal();
  settle();
}

function place(memory, instead = null) {
  const card = new Card(memory, model, page);
  cards.add(card);
  if (instead) instead.root.before(card.root);
  else at("cards").prepend(card.root);
  instead?.dispose();
  return card;
}

const ended = new Ended((first) => begin(first));
const form = new NewStream((first) => begin(first));
const running = new Running((id) => begin({ type: "watch", session_id: id }));

/** Of the streams that have ended only the newest stays as it is, and only while no other one is open. */
function settle() {
  const asks = [...cards].some((card) => card.isOwn && !card.over);
  if (asks !== isAsking) (asks ? addEventListener : removeEventListener)("beforeunload", askFirst);
  isAsking = asks;
  if (isEmpty !== !cards.size) at("known").open = isEmpty = !cards.size;
  const over = [...cards].filter((card) => card.isDone);
  const stays = over.length === cards.size ? over.at(-1) : null;
  for (const card of over) {
    if (card === stays) continue;
    cards.delete(card);
    const isFocused = card.root.contains(document.activeElement);
    ended.add(card.fold(), isFocused);
  }
}

/** A stream that is left behind stops soon: whoever leaves is asked. */
function askFirst(event) {
  event.preventDefault();
}

function linked() {
  return LINKED.exec(location.hash)?.[1] ?? null;
}

/** Watch what the address names, unless it is open here. */
function follow() {
  const session = linked();
  if (session && model && ![...cards].some((card) => !card.over && card.sessionId === session)) begin({ type: "watch", session_id: session });
}

function showModel() {
  const { name, width, height, fps, steps, level } = model;
  at("model").textContent = `${name} · ${width} × ${height} at ${fps} pictures/s · ${steps.length} steps, level ${level}`;
  form.show(model);
}

function askWho() {
  if (!at("sign-in").hidden) return;
  at("sign-in").hidden = false;
  at("token").focus();
}

let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  try {
    if (!model) {
      model = await ask("api/model");
      showModel();
      for (const memory of await Memory.kept()) place(memory);
      settle();
      follow();
      // Whoever has a keyboard may type at once.
      if (isEmpty && matchMedia("(pointer: fine)").matches && document.activeElement === document.body) at("prompt").focus();
    }
    const { sessions } = await ask("api/sessions");
    showServer("good", `${sessions.length} stream${sessions.length === 1 ? "" : "s"}`);
    say(at("problem"), "");
    at("sign-in").hidden = true;
    running.show(sessions, cards);
    for (const card of cards) card.update(sessions.find(({ session_id }) => session_id === card.sessionId));
  } catch (error) {
    if (error.code === undefined) throw error; // a fault of this page, for the console
    showServer("bad", error.code === "GONE" ? "no connection" : "refused");
    say(at("problem"), error.code === "GONE" ? `${error.message} Trying again.` : error.message);
    page.refused(error.code);
  } finally {
    polling = false;
  }
}

function showServer(state, text) {
  const server = at("server");
  if (server.dataset.state !== state) server.dataset.state = state;
  if (server.textContent !== text) server.textContent = text;
}

/** The stream that keys steer: the one the reader is in, else the newest that is open. */
function steered() {
  const open = [...cards].filter((card) => !card.isDone);
  return open.find(({ root }) => root.contains(document.activeElement)) ?? open.at(-1);
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(at("token").value.trim());
  at("token").value = "";
  at("sign-in").hidden = true;
  poll();
});
addEventListener("hashchange", follow);
listenToKeys(steered);
setInterval(poll, POLL_MS);
poll();
