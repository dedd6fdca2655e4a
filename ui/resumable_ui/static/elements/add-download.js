/** `<add-download>`: a form that starts downloads, one link a line. */
import { refusalWords } from "../actions.js";
import { linkProblem, linksIn } from "../dialogs.js";
import { make, setHidden, setText } from "../dom.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { sheet } from "../styles.js";

const SLOWER_MS = 1_000;

const FORM = sheet(`
form { display: grid; gap: 14px; padding: 16px 18px 18px; background: var(--_card); border: 1px solid var(--_line);
  border-radius: var(--_radius); }
textarea { resize: vertical; field-sizing: content; min-height: 62px; max-height: 40vh; font-family: inherit; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px; }
.buttons { display: flex; gap: 8px; justify-content: flex-end; }
.buttons .quiet { color: var(--_text); }
label span { font-weight: 400; color: var(--_muted); }
.problem { overflow-wrap: anywhere; white-space: pre-line; }
`);

export class AddDownload extends StoreElement {
  constructor() {
    super(FORM);
    this.links = make("textarea", {
      rows: 2,
      inputmode: "url",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      placeholder: "https://",
      "aria-describedby": "problem",
    });
    this.project = this.#field();
    this.filename = this.#field();
    this.directory = this.#field();
    this.sha256 = this.#field();
    this.problem = make("p", { class: "problem", id: "problem", role: "alert" });
    this.go = make("button", { type: "submit", class: "primary" }, say("add.start"));
    this.form = make(
      "form",
      { novalidate: true, submit: (/** @type {Event} */ event) => void this.#submit(event), "aria-label": say("add") },
      make("label", {}, say("add.links"), this.links),
      make(
        "div",
        { class: "grid" },
        this.#label("add.project", this.project),
        this.#label("add.directory", this.directory),
        this.#label("add.filename", this.filename),
        this.#label("add.sha256", this.sha256),
      ),
      this.problem,
      make("div", { class: "buttons" }, make("button", { type: "button", class: "quiet", click: () => this.close() }, say("add.close")), this.go),
    );
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    setHidden(this.problem, true);
    this.root.append(this.form);
  }

  #field() {
    return make("input", { type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  }

  /** @param {import("../strings.js").Key} key @param {HTMLInputElement} input */
  #label(key, input) {
    return make("label", {}, make("div", {}, `${say(key)} `, make("span", {}, say("add.optional"))), input);
  }

  focus() {
    this.links.focus();
  }

  close() {
    this.#say("");
    this.dispatchEvent(new CustomEvent("rui-close", { bubbles: true, composed: true }));
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    if (this.go.getAttribute("aria-disabled") === "true") return;
    const links = linksIn(this.links.value);
    const wrong = this.#wrong(links);
    this.#say(wrong);
    if (wrong !== "") {
      this.links.focus();
      return;
    }
    this.go.setAttribute("aria-disabled", "true");
    const left = [];
    const problems = [];
    for (const link of links) {
      const answer = await this.#order(link);
      if (answer?.ok) continue;
      left.push(link);
      problems.push(say("add.refused", { link, reason: refusalWords(answer ?? null) || say("not-connected") }));
    }
    this.go.removeAttribute("aria-disabled");
    this.links.value = left.join("\n");
    this.#say(problems.slice(0, 5).join("\n"));
    if (left.length > 0) return;
    this.filename.value = this.sha256.value = "";
    this.close();
  }

  /** @param {string[]} links */
  #wrong(links) {
    if (links.length === 0) return say("add.missing");
    const bad = links.map(linkProblem).find((problem) => problem !== "");
    if (bad) return bad;
    const single = this.filename.value.trim() !== "" || this.sha256.value.trim() !== "";
    if (single && links.length > 1) return `${say("add.filename")}, ${say("add.sha256")}: ${say("add.one-only")}`;
    const sha = this.sha256.value.trim();
    return sha !== "" && !/^[0-9a-fA-F]{64}$/.test(sha) ? say("add.sha-bad") : "";
  }

  /** Ask for one; a server that wants it slower gets it slower. @param {string} url */
  async #order(url) {
    for (;;) {
      const answer = await this.store?.request("add_download", this.#fields(url));
      if (answer?.error?.code !== "rate_limited") return answer;
      await new Promise((resolve) => setTimeout(resolve, SLOWER_MS));
    }
  }

  /** @param {string} url */
  #fields(url) {
    const { project, directory, filename, sha256 } = this;
    const fields = Object.entries({ project, directory, filename, sha256 });
    const given = fields.map(([name, field]) => [name, field.value.trim()]).filter(([, value]) => value !== "");
    return { url, ...Object.fromEntries(given) };
  }

  /** @param {string} words */
  #say(words) {
    setHidden(this.problem, words === "");
    setText(this.problem, words);
    this.links.setAttribute("aria-invalid", String(words !== ""));
  }
}
