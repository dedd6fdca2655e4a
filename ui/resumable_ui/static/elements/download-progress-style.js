/** How `<download-progress>` looks. */
import { sheet } from "../styles.js";

const hatch = (/** @type {string} */ dark, /** @type {string} */ light) =>
  `repeating-linear-gradient(-45deg, ${dark} 0 4px, ${light} 4px 8px)`;

export const ROW = sheet(`
:host { content-visibility: auto; contain-intrinsic-size: auto 112px; }
article { padding: 14px 18px; --fill: var(--_accent); }
article:focus { outline: none; }
.head { display: flex; align-items: center; justify-content: space-between; gap: 6px 14px; }
.name { min-width: 0; font-size: 14px; font-weight: 600; line-height: 1.4; overflow-wrap: anywhere; }
.marks { display: flex; align-items: center; gap: 10px; flex: none; }
.dots { display: inline-flex; align-items: center; gap: 3px; color: var(--_muted); font-size: 12px; }
.dots .icon { width: 14px; height: 14px; stroke-width: 1.5; }
.dot-ended { color: var(--_warn); }
.dot-failed { color: var(--_bad); }
.dot-now { color: var(--_accent); }
.dot-now path { fill: currentColor; }
.dot-next { color: var(--_accent); }
.dot-good { color: var(--_good); }
.dot-left { color: var(--_muted); opacity: .7; }

.bar { position: relative; height: 8px; margin: 9px 0 8px; border-radius: 99px; background: var(--_track); overflow: hidden; }
.run, .resumed { position: absolute; inset: 0; transition: transform .12s linear; }
.run { background: var(--fill); }
.resumed { background: ${hatch("color-mix(in srgb, var(--fill) 42%, var(--_card))", "var(--fill)")}; }
.breaks i { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: var(--_card); }
.complete { --fill: var(--_good-fill); }
.failed { --fill: var(--_bad-fill); }
.warn { --fill: var(--_warn-fill); }
.paused, .queued, .cancelled { --fill: light-dark(#7b8496, #7d879a); }
.bar.nothing .run { display: none; }
.bar.unknown .run { transform: none !important; background: ${hatch("var(--_track)", "color-mix(in srgb, var(--fill) 45%, var(--_track))")}; }
.bar.unknown .resumed { display: none; }
.bar.moving .run { width: 34%; border-radius: 99px; background: var(--fill); animation: to-and-fro 2.2s ease-in-out infinite alternate; transform: none; }
@keyframes to-and-fro { from { left: 0; } to { left: 66%; } }

.foot { display: grid; grid-template: "figures buttons" minmax(32px, auto) "reason reason" auto / minmax(0, 1fr) auto; align-items: center; gap: 0 16px; }
.figures { grid-area: figures; }
.figures span:first-child { color: var(--_text); font-weight: 600; }
.buttons { grid-area: buttons; display: flex; gap: 6px; }
.more .icon { width: 14px; height: 14px; margin-right: -2px; }
.more { margin-right: -8px; }
.reason { grid-area: reason; margin-top: 4px; overflow-wrap: anywhere; }
.failed .reason { color: var(--_bad); }
.warn .reason { color: var(--_warn); }
.answer { margin-top: 6px; color: var(--_bad); overflow-wrap: anywhere; }
/* Greyed, not faded: what was true a moment ago must still be readable. */
.outdated :is(.run, .resumed), .outdated .dots { filter: grayscale(1); opacity: .6; }
.outdated .pill { background: var(--_hover); color: var(--_muted); }
.outdated .figures span:first-child, .outdated .reason { color: var(--_muted); }

.details { margin-top: 10px; padding-top: 12px; border-top: 1px dashed var(--_line); display: grid; gap: 14px; }
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px; font-size: 13px; }
.facts dt { color: var(--_muted); }
.facts dd { overflow-wrap: anywhere; white-space: pre-line; }
.details .delete { justify-self: start; color: var(--_bad); border-color: var(--_bad-line); }

@media (max-width: 560px) {
  article { padding: 14px; }
  .head { flex-direction: column; align-items: stretch; gap: 6px; }
  .marks { justify-content: space-between; flex-direction: row-reverse; }
  .foot { grid-template: "figures" auto "reason" auto "buttons" auto / minmax(0, 1fr); }
  .buttons { margin-top: 8px; flex-wrap: wrap; }
  .buttons .more { margin-left: auto; }
  /* Buttons in several lines begin at one edge; one that is alone begins where the text does. */
  .buttons button:not(.more) { padding-inline: 10px; }
  .buttons .quiet:not(.more) { border-color: var(--_control); color: inherit; }
  .buttons .more:only-child { margin-left: -8px; }
  .facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .facts dd { margin-bottom: 6px; }
}
@media (prefers-reduced-motion: reduce) {
  .bar.moving .run { width: 100%; opacity: .45; }
}
@media (forced-colors: active) {
  .bar { forced-color-adjust: none; background: Canvas; border: 1px solid CanvasText; height: 10px; }
  .run, .bar.moving .run { background: Highlight; }
  .resumed { background: ${hatch("Highlight", "Canvas")}; }
  .breaks i { background: Canvas; }
  .outdated .figures, .outdated .pill { color: GrayText; }
  .dots .icon { color: CanvasText; }
  .more { margin-right: 0; }
}
`);
