/** How `<download-list>` looks. */
import { sheet } from "../styles.js";

export const LIST = sheet(`
:host { max-width: var(--rui-width, 1000px); margin: 0 auto; padding: 24px 20px 64px; }
.head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 14px; }
h1 { font-size: 22px; font-weight: 700; letter-spacing: -.01em; line-height: 1.3; }
.connection { display: inline-flex; align-items: center; gap: 6px; color: var(--_muted); font-size: 13px; }
.connection::before { content: ""; width: 8px; height: 8px; border-radius: 50%; background: var(--_control); }
.connection.live::before { background: light-dark(#1f9d63, #57c795); }
.connection.polling::before, .connection.connecting::before { background: var(--_warn-fill); }
.connection.lost::before, .connection.unauthorized::before { background: var(--_bad-fill); }
.totals { margin-left: auto; }
.tools { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 10px; margin-bottom: 16px; }
.filters { display: flex; flex-wrap: wrap; gap: 2px; padding: 3px; border-radius: 10px; background: light-dark(#e9ecf1, #22262f); min-width: 0; }
.filters label { display: inline-flex; align-items: center; gap: 6px; position: relative; padding: 4px 11px; min-height: 28px;
  border-radius: 7px; color: var(--_muted); font-weight: 500; font-size: 13px; cursor: pointer; }
.filters label:hover { color: var(--_text); }
.filters input { position: absolute; inset: 0; opacity: 0; min-height: 0; margin: 0; cursor: pointer; }
.filters label:has(:checked) { background: light-dark(#fff, #343a46); color: var(--_text); box-shadow: 0 1px 2px rgb(0 0 0 / .14); }
.filters label:has(:focus-visible) { outline: 2px solid var(--_accent); outline-offset: 1px; }
.filters .count { font-weight: 400; color: var(--_muted); }
.tools .primary { margin-left: auto; }
add-download { margin-bottom: 16px; }
.cards { display: grid; gap: 16px; }
.note { padding: 40px 0; text-align: center; color: var(--_muted); }
.empty { padding: 56px 20px; text-align: center; color: var(--_muted); border: 1.5px dashed var(--_control);
  border-radius: var(--_radius); display: grid; gap: 10px; justify-items: center; }
.empty h2 { font-size: 17px; color: var(--_text); }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: light-dark(#e9ecf1, #22262f);
  color: var(--_text); padding: 3px 8px; border-radius: 6px; }
.access { max-width: 460px; margin: 48px auto; padding: 22px; background: var(--_card); border: 1px solid var(--_line);
  border-radius: var(--_radius); display: grid; gap: 16px; }
.access h2 { font-size: 17px; }
.access button { justify-self: end; }
@media (max-width: 560px) {
  :host { padding: 18px 14px 48px; }
  .totals { margin-left: 0; flex-basis: 100%; }
  .filters { width: 100%; }
  .filters label { flex: 1 1 auto; flex-direction: column; justify-content: center; padding: 5px 4px; min-height: 44px; gap: 0; }
  .filters .count { font-size: 12px; }
  .tools .primary { width: 100%; }
}
@media (forced-colors: active) {
  .filters { border: 1px solid CanvasText; }
  .filters label:has(:checked) { background: Highlight; color: HighlightText; forced-color-adjust: none; }
  .filters label:has(:checked) .count { color: HighlightText; }
  .connection::before { border: 1px solid CanvasText; }
}
`);
