/**
 * Building nodes. Names and messages come from strangers, so text only ever becomes a text node: nothing here, or
 * anywhere in this folder, parses HTML.
 */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string|boolean|number|((event: any) => void)|undefined>} [attributes] a function listens to
 *   the event of that name; true sets an empty attribute, false and undefined none
 * @param {(Node|string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
/** Strokes on a grid of 16, drawn in the colour of the text around them. */
const PATHS = {
  chevron: "M4 6l4 4 4-4",
  plus: "M8 3v10M3 8h10",
  alert: "M8 2.2L14.5 13.5h-13zM8 6.6v3M8 11.6v.1",
  unplugged: "M2.5 13.5l2-2M11.5 4.5l2-2M6 6L3.8 8.2a2.8 2.8 0 0 0 4 4L10 10M10 10l2.2-2.2a2.8 2.8 0 0 0-4-4L6 6M2 2l12 12",
  again: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
  close: "M4 4l8 8M12 4l-8 8",
  "dot-ended": "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4M6 6l4 4M10 6l-4 4",
  "dot-failed": "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4M6 6l4 4M10 6l-4 4",
  "dot-now": "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4M8 6.6a1.4 1.4 0 1 1 0 2.8a1.4 1.4 0 0 1 0-2.8",
  "dot-next": "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4M8 5.2v3l1.8 1.4",
  "dot-left": "M8 3.4a4.6 4.6 0 1 1 0 9.2a4.6 4.6 0 0 1 0-9.2",
  "dot-good": "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4M5.6 8.2l1.7 1.7 3.2-3.6",
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon ${name}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Change a text only where it differs: every real change costs layout, and some are spoken. @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} name @param {string|null} value null takes it away */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Hide or show; saying the same again would be a change to whoever watches. @param {HTMLElement} node @param {boolean} hidden */
export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/**
 * Make a node's children the texts, each in an element of its own; those that stay are not touched.
 * @param {Element} parent
 * @param {string[]} texts
 * @param {keyof HTMLElementTagNameMap} [tag]
 */
export function setTexts(parent, texts, tag = "span") {
  while (parent.children.length > texts.length) parent.lastElementChild?.remove();
  texts.forEach((text, index) => {
    const child = parent.children[index] ?? parent.appendChild(document.createElement(tag));
    setText(child, text);
  });
}

/**
 * Put the children in this order, moving only what is out of place: a moved node loses the keyboard focus.
 * @param {Element} parent
 * @param {Element[]} children
 */
export function setChildren(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}
