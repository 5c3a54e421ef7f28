// The keyboard: one key for each thing that is done often, while nobody types; and the list of them.

const OFF = "longtake.keys-off";
const TYPED = "input, textarea, select, [contenteditable]";
const PRESSED = "button, summary, a, [role=button]"; // what space presses itself

const at = (id) => document.getElementById(id);

/** Listen to keys; `card()` is the stream that they steer, if there is one. */
export function listenToKeys(card) {
  const help = at("keys");
  const isOn = at("keys-on");
  isOn.checked = !sessionStorage.getItem(OFF);
  isOn.addEventListener("change", () => {
    if (isOn.checked) sessionStorage.removeItem(OFF);
    else sessionStorage.setItem(OFF, "1");
  });
  at("show-keys").addEventListener("click", () => help.showModal());
  at("hide-keys").addEventListener("click", () => help.close());
  addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (target.closest?.(TYPED)) {
      if (key === "Escape") target.blur();
      return;
    }
    if (!isOn.checked || (key === " " && target.closest?.(PRESSED))) return;
    const done = {
      " ": () => card()?.toggle(),
      f: () => card()?.tools.toggleFull(),
      s: () => card()?.tools.snap(),
      "/": () => (card()?.isSteered ? card().focusCue() : at("prompt").focus()),
      n: () => at("prompt").focus(),
      "?": () => help.showModal(),
    }[key];
    if (!done) return;
    event.preventDefault();
    done();
  });
}
