/** A speed and a time left that people can read: they change once a second, however often news of them come. */

const SECOND_MS = 1_000;

/** @typedef {{speed: number, eta: number|null}} Rate bytes per second, seconds */

/** All change at the same moment, the turn of the second: a row and the total of the page must not differ. */
export class SteadyRate {
  /** @type {Rate} */
  #shown = { speed: 0, eta: null };
  #second = NaN;

  /** What to show at `nowMs` of how fast it is. @param {Rate} rate @param {number} nowMs */
  at({ speed, eta }, nowMs) {
    const second = Math.floor(nowMs / SECOND_MS);
    const shown = this.#shown;
    // A standstill is shown at once: a speed that is over must not stand beside it.
    const turned = (speed === 0) !== (shown.speed === 0) || (eta === null) !== (shown.eta === null);
    if (turned || second !== this.#second) {
      this.#shown = { speed, eta };
      this.#second = second;
    }
    return this.#shown;
  }

  /** In how long what it holds back has to be drawn; null where it holds back nothing. @param {Rate} rate @param {number} nowMs */
  heldBackMs({ speed, eta }, nowMs) {
    const same = speed === this.#shown.speed && eta === this.#shown.eta;
    return same ? null : SECOND_MS - (nowMs % SECOND_MS);
  }
}
