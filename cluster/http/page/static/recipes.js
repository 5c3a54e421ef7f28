// The recipes that streams can be made by, as a menu with what each costs; where there is only one there is no menu.

import { say } from "./texts.js";

/** The recipe of this name, or that of streams that name none. */
export function recipeOf({ recipes }, name) {
  return recipes.find((recipe) => recipe.name === name) ?? recipes[0];
}

export class RecipeMenu {
  #parts;
  #chosen;
  #recipes = [];

  /** `parts` are the menu, its label, and what is said of the recipe that is chosen; `chosen(recipe)` is told which. */
  constructor(parts, chosen) {
    this.#parts = parts;
    this.#chosen = chosen;
    parts.menu.addEventListener("change", () => this.#explain());
  }

  show({ recipes }) {
    const { menu, label } = this.#parts;
    const chosen = menu.value;
    this.#recipes = recipes;
    menu.hidden = label.hidden = recipes.length < 2;
    menu.replaceChildren(...recipes.map(({ name, relative_cost, latency_s }) => {
      const takes = latency_s ? `, ${latency_s.toFixed(2)} s a block` : "";
      return new Option(`${name}: cost × ${relative_cost.toFixed(2)}${takes}`, name, false, name === chosen);
    }));
    this.#explain();
  }

  /** What a first frame says of it: nothing, where there is no choice. */
  get asked() {
    return this.#parts.menu.hidden ? {} : { recipe: this.#parts.menu.value };
  }

  #explain() {
    const { menu, help } = this.#parts;
    const [first] = this.#recipes;
    const chosen = recipeOf({ recipes: this.#recipes }, menu.value);
    this.#chosen(chosen);
    if (menu.hidden) return say(help, "");
    const cost = chosen === first ? "" : `. It costs ${chosen.relative_cost.toFixed(2)} × what ${first.name} does`;
    say(help, `${chosen.help}${cost}${chosen.proven ? "" : ". Nobody has judged its pictures with these weights yet"}.`);
  }
}
