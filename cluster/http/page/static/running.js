// The list of streams that run: a small picture of those that are open here, a way to watch the others.

import { copyOf } from "./texts.js";

const at = (id) => document.getElementById(id);

export class Running {
  #rows = new Map();
  #watch;

  /** `watch(id)` is called when somebody wants to see a stream that is not open here. */
  constructor(watch) {
    this.#watch = watch;
  }

  /** Show what the server lists; `cards` are the streams that are open here. */
  show(sessions, cards) {
    const here = new Map([...cards].filter(({ over }) => !over).map((card) => [card.sessionId, card]));
    const listed = new Set(sessions.map(({ session_id }) => session_id));
    for (const [id, { root }] of this.#rows) {
      if (listed.has(id)) continue;
      root.remove();
      this.#rows.delete(id);
    }
    for (const session of sessions) this.#fill(this.#row(session.session_id), session, here.get(session.session_id));
    at("none").hidden = sessions.length > 0;
  }

  #row(id) {
    let row = this.#rows.get(id);
    if (!row) {
      row = copyOf("running-row");
      row.card = undefined;
      row.parts.watch.addEventListener("click", () => (row.card ? row.card.reveal() : this.#watch(id)));
      this.#rows.set(id, row);
      at("running").append(row.root);
    }
    return row;
  }

  #fill(row, session, card) {
    const { prompt, watch, facts, thumb } = row.parts;
    row.card = card;
    tell(prompt, session.prompt);
    prompt.title = session.prompt;
    tell(watch, card ? "Show" : "Watch");
    watch.ariaLabel = `${card ? "Show" : "Watch"} ${session.prompt}`;
    const whose = session.tenant && session.tenant !== "default" ? ` · ${session.tenant}` : "";
    const state = session.state === "running" ? "" : `${session.state} · `;
    tell(facts, `${state}block ${session.blocks_begun} · ${session.pace}${whose}`);
    if (card?.drawInto(thumb)) thumb.dataset.drawn = "true";
  }
}

function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
