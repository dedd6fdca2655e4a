/** Questions to a person, as native modal dialogs: they hold the focus, close with Escape and give the focus back. */
import { make } from "./dom.js";
import { say } from "./strings.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {{label: string, placeholder?: string, check: (value: string) => string}} [field] `check` returns what is
 *   wrong with the value, or nothing
 * @property {string} [confirm] the button that says yes; without it there is only one that closes
 * @property {string} [decline]
 * @property {boolean} [danger]
 */

/**
 * Ask, and return the field's value (or an empty text where there is no field) once confirmed; null when declined.
 * @param {ShadowRoot} root where the dialog lives, for its styles
 * @param {Question} question
 * @returns {Promise<string|null>}
 */
export function ask(root, question) {
  const { title, text, field, confirm, danger = false } = question;
  const decline = question.decline ?? (confirm === undefined ? say("dialog.close") : say("dialog.back"));
  const problem = make("p", { class: "problem", id: "dialog-problem", role: "alert" });
  const input = make("input", {
    type: "url",
    inputmode: "url",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: field?.placeholder ?? "",
    "aria-describedby": "dialog-problem",
  });
  const no = make("button", { type: "button", click: () => dialog.close() }, decline);
  const yes = make("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm ?? "");
  const form = make(
    "form",
    { novalidate: true },
    make("div", {}, make("h2", { id: "dialog-title" }, title), make("p", { id: "dialog-text" }, text)),
    ...(field === undefined ? [] : [make("label", {}, field.label, input), problem]),
    make("div", { class: "buttons" }, no, ...(confirm === undefined ? [] : [yes])),
  );
  const dialog = make("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  problem.hidden = true;
  root.append(dialog);
  return new Promise((resolve) => {
    /** @type {string|null} */
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const value = input.value.trim();
      const wrong = field?.check(value) ?? "";
      problem.hidden = wrong === "";
      problem.textContent = wrong;
      input.setAttribute("aria-invalid", String(wrong !== ""));
      if (wrong !== "") {
        input.focus();
        return;
      }
      answer = value;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    (field === undefined ? no : input).focus();
  });
}

/** What is wrong with a link; nothing where it is one. @param {string} link */
export function linkProblem(link) {
  if (link === "") return say("add.missing.one");
  try {
    if (!/\s/.test(link) && /^https?:$/.test(new URL(link).protocol)) return "";
  } catch {
    // Not a URL at all: the same words.
  }
  return say("add.bad", { link: link.length > 120 ? `${link.slice(0, 120)}…` : link });
}

/** The links of a text, some on one line perhaps; a line with anything else in it is named whole. @param {string} text */
export function linksIn(text) {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter(Boolean).flatMap((line) => {
    const words = line.split(/\s+/);
    return words.every((word) => linkProblem(word) === "") ? words : [line];
  });
}
