// The small line of a tile: the average heart rate of each of the last minutes, and a dot for the newest one.

import { el, setAttribute } from './dom.js';

const WIDTH = 120;
const HEIGHT = 40;
/** A resting heart rate that varies by a few beats must not look like a sprint. */
const SPAN_MIN = 24;

/** Minutes that a sparkline shows. */
export const MINUTES = 30;

/** A line in an SVG element of fixed shape. */
export class Sparkline {
  #line = el('path', { class: 'line' });
  #dot = el('circle', { class: 'dot', r: 3, cx: WIDTH - 4, visibility: 'hidden' });
  #minutes;
  #newest;

  constructor() {
    // The numbers are in the tile, and the chart of the user has a table.
    this.svg = el('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'xMaxYMid', class: 'sparkline', 'aria-hidden': 'true', focusable: 'false' }, this.#line, this.#dot);
  }

  /** Shows the averages, null for a minute without readings, and the newest heart rate. */
  show(minutes, newest) {
    if (minutes === this.#minutes && newest === this.#newest) return;
    this.#minutes = minutes;
    this.#newest = newest;
    const values = (minutes ?? []).filter((value) => value !== null);
    if (newest !== null) values.push(newest);
    const middle = (Math.min(...values) + Math.max(...values)) / 2;
    const span = Math.max(SPAN_MIN, Math.max(...values) - Math.min(...values));
    const y = (bpm) => (HEIGHT / 2 - ((bpm - middle) / span) * (HEIGHT - 8)).toFixed(1);
    const x = (index) => (4 + (index / MINUTES) * (WIDTH - 8)).toFixed(1);
    let path = '';
    let isDrawing = false;
    (minutes ?? []).forEach((bpm, index) => {
      // A minute alone between two gaps is a point: a line of length 0 with round ends.
      if (bpm !== null) path += `${isDrawing ? 'L' : 'M'}${x(index)} ${y(bpm)}${isDrawing ? '' : 'h0'}`;
      isDrawing = bpm !== null;
    });
    setAttribute(this.#line, 'd', path);
    setAttribute(this.#dot, 'visibility', newest === null ? 'hidden' : 'visible');
    if (newest !== null) setAttribute(this.#dot, 'cy', y(newest));
  }
}
