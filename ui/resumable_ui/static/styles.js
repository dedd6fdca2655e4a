/**
 * Colours, type and controls, as a constructed stylesheet: a strict `style-src 'self'` allows it. A host sets the
 * `--rui-*` properties anywhere above the elements; light and dark follow the `color-scheme` of the place.
 */

/** @param {string} text */
export function sheet(text) {
  const made = new CSSStyleSheet();
  made.replaceSync(text);
  return made;
}

export const BASE = sheet(`
:host {
  --_card: var(--rui-card, light-dark(#ffffff, #191c23));
  --_text: var(--rui-text, light-dark(#1a1d24, #e9ebf0));
  --_muted: var(--rui-muted, light-dark(#596070, #a3abba));
  --_line: var(--rui-line, light-dark(#e3e6eb, #2c313b));
  --_control: var(--rui-control, light-dark(#c4cad4, #454c5a));
  --_hover: light-dark(#f0f2f5, #242831);
  --_track: var(--rui-track, light-dark(#e6e9ee, #2d323d));
  --_accent: var(--rui-accent, light-dark(#2460e0, #6c9bff));
  --_on-accent: var(--rui-on-accent, light-dark(#ffffff, #0b1530));
  --_good: var(--rui-good, light-dark(#157347, #57c795));
  --_good-fill: light-dark(#1c9160, #3fb27f);
  --_good-bg: light-dark(#e8f6ee, #142a20);
  --_warn: var(--rui-warn, light-dark(#7d4e00, #f2c66d));
  --_warn-fill: light-dark(#d99a1c, #c08a2b);
  --_warn-bg: light-dark(#fff6e0, #2b2413);
  --_warn-line: light-dark(#ecd08b, #5d4c22);
  --_bad: var(--rui-bad, light-dark(#b3241b, #ff8f86));
  --_bad-fill: light-dark(#d2453b, #d8635a);
  --_bad-bg: light-dark(#fdefee, #33191a);
  --_bad-line: light-dark(#f2c4c0, #6b3331);
  --_info-bg: light-dark(#eaf1fe, #1a2540);
  --_radius: var(--rui-radius, 12px);
  --_font: var(--rui-font, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif);
  display: block;
  color: var(--_text);
  font: 14px/1.45 var(--_font);
  font-variant-numeric: tabular-nums;
  -webkit-text-size-adjust: 100%;
}
:host([hidden]), [hidden] { display: none !important; }
*, *::before, *::after { box-sizing: border-box; }
h1, h2, h3, p, ul, ol, dl, dd, fieldset { margin: 0; padding: 0; border: 0; }
ul, ol { list-style: none; }
.muted { color: var(--_muted); }
.hidden-text {
  position: absolute; width: 1px; height: 1px; margin: -1px; padding: 0; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.icon { width: 16px; height: 16px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.6;
  stroke-linecap: round; stroke-linejoin: round; }

button {
  display: inline-flex; align-items: center; justify-content: center; gap: 6px; min-height: 32px; padding: 5px 12px;
  border: 1px solid var(--_control); border-radius: 8px; background: transparent; color: inherit;
  font: inherit; font-weight: 500; line-height: 1.3; text-align: center; cursor: pointer;
}
button:hover { background: var(--_hover); }
button.primary { background: var(--_accent); border-color: var(--_accent); color: var(--_on-accent); }
button.primary:hover { filter: brightness(1.08); }
button.danger { background: var(--_bad-fill); border-color: var(--_bad-fill); color: #fff; }
@media not (forced-colors: active) { button.danger { background: light-dark(#b3241b, #b23a31); border-color: transparent; } }
button.quiet { border-color: transparent; color: var(--_muted); padding-inline: 8px; }
button.quiet:hover { color: var(--_text); }
button[aria-disabled="true"] { opacity: .62; cursor: default; }
button .chevron { transition: transform .15s; }
button[aria-expanded="true"] .chevron { transform: rotate(180deg); }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }

.pill {
  display: inline-block; padding: 2px 10px; border-radius: 99px; background: var(--_hover); color: var(--_muted);
  font-size: 12px; font-weight: 600; line-height: 18px; border: 1px solid transparent;
}
.pill.info { background: var(--_info-bg); color: light-dark(#1b4bb3, #a9c5ff); }
.pill.good { background: var(--_good-bg); color: var(--_good); }
.pill.warn { background: var(--_warn-bg); color: var(--_warn); }
.pill.bad { background: var(--_bad-bg); color: var(--_bad); }

input, textarea {
  width: 100%; min-height: 36px; padding: 7px 10px; border: 1px solid var(--_control); border-radius: 8px;
  background: var(--_card); color: var(--_text); font: inherit;
}
input[aria-invalid="true"], textarea[aria-invalid="true"] { border-color: var(--_bad); }
label { display: grid; gap: 5px; font-weight: 500; }
/* Facts in a row, a dot between two; at the start of a line the dot falls outside and is cut off. */
.facts-row { display: flex; flex-wrap: wrap; gap: 0 1.1em; overflow: clip; color: var(--_muted); min-width: 0; }
.facts-row > span { white-space: nowrap; margin-left: -1.1em; }
.facts-row > span::before { content: "·"; display: inline-block; width: 1.1em; text-align: center; font-weight: 400; color: var(--_muted); }
.problem { color: var(--_bad); }

dialog {
  width: min(480px, calc(100vw - 32px)); padding: 20px; border: 1px solid var(--_line); border-radius: 14px;
  background: var(--_card); color: var(--_text); font: 14px/1.5 var(--_font);
  box-shadow: 0 16px 48px rgb(0 0 0 / .28);
}
dialog::backdrop { background: rgb(8 10 16 / .5); }
dialog h2 { font-size: 17px; line-height: 1.3; margin-bottom: 8px; }
dialog form { display: grid; gap: 16px; }
dialog .buttons { grid-area: auto; display: flex; flex-wrap: wrap; gap: 8px; justify-content: flex-end; }
dialog p { overflow-wrap: anywhere; white-space: pre-line; }

@media (max-width: 560px) {
  button { min-height: 40px; padding-inline: 14px; }
  input, textarea { font-size: 16px; min-height: 42px; }
}
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { transition: none !important; animation: none !important; }
}
@media (forced-colors: active) {
  button { border-color: ButtonText; }
  button.quiet { border-color: ButtonText; }
  .pill { border-color: CanvasText; }
  button[aria-disabled="true"] { color: GrayText; opacity: 1; border-color: GrayText; }
}
`);
