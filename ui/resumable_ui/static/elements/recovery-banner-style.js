/** How `<recovery-banner>` looks. */
import { sheet } from "../styles.js";

export const BANNER = sheet(`
.banner { padding: 10px 20px; border-bottom: 1px solid transparent; --back: var(--_warn-bg); --ink: var(--_warn); --edge: var(--_warn-line);
  background: var(--back); color: var(--ink); border-color: var(--edge); }
.banner:focus { outline: none; }
/* With nothing to say it is only out of sight: a live region that comes into being with its text is often not read. */
.banner.none { position: absolute; width: 1px; height: 1px; padding: 0; border: 0; overflow: hidden; clip-path: inset(50%); }
.banner.bad { --back: var(--_bad-bg); --ink: var(--_bad); --edge: var(--_bad-line); }
.banner.lost { --back: light-dark(#2d323d, #383f4d); --ink: #fff; --edge: transparent; }
.banner.quiet { --back: var(--_hover); --ink: var(--_text); --edge: var(--_line); }
.top { display: flex; align-items: center; gap: 8px 12px; max-width: var(--rui-width, 1000px); margin: 0 auto; }
.sign { display: none; }
.warn .sign, .bad .sign, .lost .sign { display: inline-flex; }
.sign .icon { display: none; width: 18px; height: 18px; }
.bad .sign .alert, .warn .sign .again, .lost .sign .unplugged { display: block; }
[role="status"] { flex: 1; font-weight: 550; min-width: 0; }
.buttons { display: flex; flex-wrap: wrap; gap: 6px; }
.banner button { border-color: color-mix(in srgb, var(--ink) 45%, var(--back)); color: var(--ink); }
.banner button:hover { background: color-mix(in srgb, var(--ink) 9%, var(--back)); }
.banner :focus-visible { outline-color: var(--ink); }
.banner :is(ul, dialog) button { color: var(--_text); border-color: var(--_control); }
.banner :is(ul, dialog) button:hover { background: var(--_hover); }
.banner dialog button.primary { color: var(--_on-accent); background: var(--_accent); border-color: var(--_accent); }
.banner :is(ul, dialog) :focus-visible { outline-color: var(--_accent); }
ul { max-width: var(--rui-width, 1000px); margin: 10px auto 2px; max-height: 45vh; overflow: auto; background: var(--_card);
  color: var(--_text); border: 1px solid var(--edge); border-radius: var(--_radius); }
li { display: flex; justify-content: space-between; align-items: center; gap: 6px 16px; padding: 10px 14px;
  border-bottom: 1px solid var(--_line); }
li:last-child { border-bottom: 0; }
.rest, .facts { color: var(--_muted); }
.what { min-width: 0; }
li .buttons { flex: none; }
.who { display: flex; flex-wrap: wrap; gap: 0 10px; }
.what b { font-weight: 600; overflow-wrap: anywhere; }
.reason { color: var(--ink); overflow-wrap: anywhere; }
/* The list is a card of its own: what is readable on the dark bar around it is not readable there. */
.lost ul { --ink: var(--_text); }
.answer { max-width: var(--rui-width, 1000px); margin: 8px auto 0; }
@media (max-width: 700px) {
  .banner { padding: 10px 14px; }
  .top { flex-wrap: wrap; }
  .top .buttons { flex-basis: 100%; }
  li { flex-direction: column; align-items: stretch; }
  li .buttons { flex: auto; }
}
@media (forced-colors: active) { .banner { border-bottom: 2px solid CanvasText; } .banner button { border-color: ButtonText; } }
`);
