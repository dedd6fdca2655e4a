/** Asks for the access token, where the page was opened without it or with a stale one. */
import { make, setHidden, setText } from "../dom.js";
import { say } from "../strings.js";

/**
 * The token in `…#token=…`, null where there is none. A plus is a plus: this is no form.
 * @param {string} text
 */
export function tokenIn(text) {
  const found = /[#&]token=([^&]*)/.exec(text);
  if (found === null) return null;
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1]; // written by hand, with a percent sign of its own
  }
}

export class AccessForm {
  #tried = false;

  /** @param {(token: string) => void} go */
  constructor(go) {
    this.input = make("input", { type: "password", autocomplete: "off", "aria-describedby": "token-problem" });
    this.problem = make("p", { class: "problem", id: "token-problem", role: "alert" });
    this.node = make(
      "form",
      { class: "access", submit: (/** @type {Event} */ event) => this.#submit(event, go) },
      make("div", {}, make("h2", {}, say("token.title")), make("p", { class: "muted" }, say("token.how"))),
      make("label", {}, say("token.label"), this.input),
      this.problem,
      make("button", { type: "submit", class: "primary" }, say("token.go")),
    );
  }

  /** @param {Event} event @param {(token: string) => void} go */
  #submit(event, go) {
    event.preventDefault();
    const text = this.input.value.trim();
    const token = tokenIn(text) ?? text;
    if (token === "") return;
    this.#tried = true;
    this.input.value = "";
    go(token);
  }

  /** @param {boolean} shown */
  draw(shown) {
    if (!shown && !this.node.hidden) setHidden(this.problem, true);
    setHidden(this.node, !shown);
    setHidden(this.problem, !shown || !this.#tried);
    setText(this.problem, say("token.wrong"));
  }
}
