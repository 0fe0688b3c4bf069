// The chart of one user: heart rate as a line over the band from the lowest to the highest, steps as bars below it.
// It can be read with the pointer, with the arrow keys, by a screen reader, and as a table.

import { el, setAttribute } from './dom.js';
import { readingTable, bucketTable, bucketText, readingText } from './table.js';
import { DAY, HOUR, MINUTE, clock, count, date, instant, shortCount, zoneOffset } from './text.js';
import { thresholds } from './thresholds.js';

/** Sizes of the drawing, for text of 16 pixels. A larger text enlarges everything. */
const PAD = { left: 52, right: 12, top: 22, bottom: 26 };
/** The share of the height that the steps take, and the gap above them. */
const BARS_SHARE = 0.2;
const GAP = 42;
/**
 * Readings further apart are not joined: nobody knows what was between them. The server also weighs one for 300 s at
 * most.
 */
const JOIN_MAX = 5 * MINUTE;
const NOTHING_SELECTED = 'No value is selected';
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 180, 360, 720, 1440, 2880, 4320, 10_080, 20_160, 44_640].map((n) => n * MINUTE);

/** A chart. `onZoom(start, end)` is called after the pointer was dragged over a part of it. */
export class Chart {
  #data = null;
  #svg = el('svg', { 'aria-hidden': 'true', focusable: 'false' });
  #plot;
  #readout = el('p', { class: 'readout' });
  #details = el('details', {}, el('summary', {}, 'Table'));
  #width = 0;
  #height = 0;
  #scale = 1;
  #stop = null;
  #drag = null;
  #marker = null;
  #bandKey = el('span', { class: 'key band' }, 'lowest to highest');
  #limitKey = el('span', { class: 'key limit' }, 'alert limit');

  constructor(onZoom) {
    this.onZoom = onZoom;
    this.#plot = el('div', { class: 'plot', tabindex: '0', role: 'slider', 'aria-valuemin': '0', 'aria-readonly': 'true' }, this.#svg);
    const legend = el(
      'p',
      { class: 'legend' },
      el('span', { class: 'key line' }, 'Heart rate, bpm'),
      this.#bandKey,
      this.#limitKey,
      el('span', { class: 'key bars' }, 'Steps'),
    );
    this.element = el('figure', { class: 'chart' }, legend, this.#plot, this.#readout, this.#details);
    this.#details.addEventListener('toggle', () => this.#fillTable());
    this.#plot.addEventListener('keydown', (event) => this.#key(event));
    this.#plot.addEventListener('pointermove', (event) => this.#move(event));
    this.#plot.addEventListener('pointerleave', (event) => event.pointerType !== 'touch' && this.#select(null));
    this.#plot.addEventListener('pointerdown', (event) => this.#press(event));
    this.#plot.addEventListener('pointerup', (event) => this.#release(event));
    this.#plot.addEventListener('pointercancel', () => (this.#drag = null));
    new ResizeObserver(() => {
      const { clientWidth, clientHeight } = this.#plot;
      if (clientWidth !== this.#width * this.#scale || clientHeight !== this.#height * this.#scale) this.#draw();
    }).observe(this.#plot);
  }

  /**
   * Shows `{start, end, zone, buckets, bucket, readings, label}`: the buckets of /metrics/series and their size, and if
   * the range is short the samples of /samples. Times are milliseconds.
   */
  show(data) {
    const stop = this.#stop?.start;
    this.#stop = null;
    this.#data = data;
    this.#data.stops = data.readings ?? data.buckets;
    setAttribute(this.#plot, 'aria-label', data.label);
    this.#bandKey.hidden = Boolean(data.readings);
    setAttribute(this.#plot, 'aria-valuemax', String(Math.max(0, data.stops.length - 1)));
    this.#draw();
    const isKept = stop !== undefined && this.#plot.matches(':hover, :focus');
    this.#select(isKept ? (data.stops.find((other) => other.start >= stop) ?? null) : null);
    this.#fillTable();
  }

  /** Forgets what it shows. */
  clear() {
    this.#data = this.#stop = this.#drag = this.#marker = null;
    this.#svg.replaceChildren();
    this.#readout.textContent = '';
    setAttribute(this.#plot, 'aria-valuetext', NOTHING_SELECTED);
    this.#details.replaceChildren(this.#details.firstElementChild);
  }

  #x(at) {
    const { start, end } = this.#data;
    return PAD.left + ((at - start) / (end - start)) * (this.#width - PAD.left - PAD.right);
  }

  #at(x) {
    const { start, end } = this.#data;
    const share = (x - PAD.left) / (this.#width - PAD.left - PAD.right);
    return start + Math.min(1, Math.max(0, share)) * (end - start);
  }

  #draw() {
    this.#scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    this.#width = this.#plot.clientWidth / this.#scale;
    this.#height = this.#plot.clientHeight / this.#scale;
    if (!this.#data || !this.#width) return;
    setAttribute(this.#svg, 'viewBox', `0 0 ${this.#width} ${this.#height}`);
    const rates = this.#rateScale();
    const steps = this.#data.buckets.reduce((most, bucket) => Math.max(most, bucket.total_steps), 0);
    const base = this.#height - PAD.bottom;
    const bar = (value) => base - (value / (steps || 1)) * this.#height * BARS_SHARE;
    const { line, points } = this.#line(rates.y);
    const limits = [
      ...(thresholds.high < rates.top ? [this.#rule('limit', rates.y(thresholds.high))] : []),
      ...(thresholds.low > rates.bottom ? [this.#rule('limit low', rates.y(thresholds.low))] : []),
    ];
    this.#limitKey.hidden = !limits.length;
    this.#marker = el('line', { class: 'marker', y1: PAD.top, y2: base, visibility: 'hidden' });
    this.#svg.replaceChildren(
      ...this.#timeAxis(base),
      ...rates.ticks.flatMap((bpm) => this.#valueTick(rates.y(bpm), count(bpm))),
      ...limits,
      ...(steps ? this.#valueTick(bar(steps), shortCount(steps)) : []),
      this.#rule('base', base),
      el('text', { class: 'unit', x: 0, y: 12 }, 'bpm'),
      el('text', { class: 'unit', x: 0, y: bar(steps) - 12 }, steps ? 'steps' : 'no steps'),
      el('path', { class: 'band', d: this.#data.readings ? '' : this.#band(rates.y) }),
      el('path', { class: 'bars', d: this.#bars(bar, base) }),
      el('path', { class: 'line', d: line }),
      el('path', { class: 'line points', d: points }),
      this.#marker,
      ...(this.#drag ? [this.#drag.mark] : []),
    );
    this.#select(this.#stop);
  }

  /** Returns a scale for heart rates with round ends. */
  #rateScale() {
    const { buckets, readings } = this.#data;
    const values = (readings ? readings.map((one) => one.heart_rate) : buckets.flatMap((one) => [one.min_heart_rate, one.max_heart_rate])).filter((bpm) => bpm != null);
    let low = 50;
    let high = 110;
    if (values.length) {
      low = values.reduce((a, b) => Math.min(a, b));
      high = values.reduce((a, b) => Math.max(a, b));
    }
    const step = high - low > 100 ? 40 : high - low > 40 ? 20 : 10;
    const bottom = Math.floor((low - 1) / step) * step;
    const top = Math.ceil((high + 1) / step) * step;
    const area = this.#height * (1 - BARS_SHARE) - PAD.bottom - GAP - PAD.top;
    const y = (bpm) => PAD.top + (1 - (bpm - bottom) / (top - bottom)) * area;
    const ticks = [];
    for (let bpm = bottom; bpm <= top; bpm += step) ticks.push(bpm);
    return { y, ticks, top, bottom };
  }

  #rule(name, y) {
    return el('line', { class: name, x1: PAD.left, x2: this.#width - PAD.right, y1: y, y2: y });
  }

  #valueTick(y, label) {
    return [this.#rule('grid', y), el('text', { class: 'value', x: PAD.left - 8, y: y + 4 }, label)];
  }

  /** Returns lines and labels at round times of the zone's clock. */
  #timeAxis(base) {
    const { start, end, zone } = this.#data;
    const most = Math.max(2, (this.#width - PAD.left) / 84);
    const step = TIME_STEPS.find((size) => (end - start) / size <= most) ?? TIME_STEPS.at(-1);
    const nodes = [];
    for (let local = Math.ceil((start + zoneOffset(start, zone)) / step) * step; ; local += step) {
      const at = instant(local, zone);
      if (at >= end || nodes.length > 200) return nodes;
      const x = this.#x(at);
      if (at < start || x > this.#width - 20) continue;
      const label = step >= DAY || local % DAY === 0 ? date(at, zone) : clock(at, zone);
      nodes.push(el('line', { class: 'grid', x1: x, x2: x, y1: PAD.top, y2: base }), el('text', { class: 'time', x, y: base + 18 }, label));
    }
  }

  #line(y) {
    const { readings, buckets } = this.#data;
    const points = readings
      ? readings.filter((one) => one.heart_rate !== undefined).map((one) => [one.start, one.heart_rate, one.source])
      : buckets.map((one) => [(one.start + one.end) / 2, one.average_heart_rate]);
    const runs = [];
    // Two devices of one person are two lines: joined, they would be a zigzag.
    for (const source of new Set(points.map(([, , name]) => name))) {
      let last = null;
      for (const [at, bpm, name] of points) {
        if (name !== source) continue;
        const isJoined = last !== null && (!readings || at - last <= JOIN_MAX);
        if (bpm !== null && !isJoined) runs.push([]);
        if (bpm !== null) runs.at(-1).push(`${this.#x(at).toFixed(1)} ${y(bpm).toFixed(1)}`);
        last = bpm === null ? null : at;
      }
    }
    // A line of length 0 with round ends is a point.
    const [single, joined] = [runs.filter((run) => run.length === 1), runs.filter((run) => run.length > 1)];
    return { line: joined.map((run) => `M${run.join('L')}`).join(''), points: single.map(([point]) => `M${point}h0`).join('') };
  }

  #band(y) {
    let path = '';
    let run = [];
    const close = () => {
      if (!run.length) return;
      const edge = (one, bpm) => `${this.#x(one.start).toFixed(1)} ${y(bpm).toFixed(1)}L${this.#x(one.end).toFixed(1)} ${y(bpm).toFixed(1)}`;
      const back = (one) => `L${this.#x(one.end).toFixed(1)} ${y(one.min_heart_rate).toFixed(1)}L${this.#x(one.start).toFixed(1)} ${y(one.min_heart_rate).toFixed(1)}`;
      path += `M${run.map((one) => edge(one, one.max_heart_rate)).join('L')}${run.reverse().map(back).join('')}Z`;
      run = [];
    };
    for (const bucket of this.#data.buckets) {
      if (bucket.min_heart_rate === null) close();
      else run.push(bucket);
    }
    close();
    return path;
  }

  #bars(y, base) {
    let path = '';
    for (const { start, end, total_steps: steps } of this.#data.buckets) {
      if (!steps) continue;
      const [left, right] = [this.#x(start), this.#x(end)];
      const gap = right - left > 4 ? 1 : 0;
      path += `M${left.toFixed(1)} ${base}V${y(steps).toFixed(1)}H${(right - gap).toFixed(1)}V${base}Z`;
    }
    return path;
  }

  #text(stop) {
    return this.#data.readings ? readingText(stop, this.#data.zone) : bucketText(stop, this.#data.zone);
  }

  /** Moves the marker to a bucket or a reading, or away. */
  #select(stop) {
    this.#stop = stop;
    const hint = `Point at the chart, tap it or use the arrow keys to read values.${this.onZoom ? ' Drag with a mouse to zoom.' : ''}`;
    const text = stop ? this.#text(stop) : hint;
    this.#readout.textContent = text;
    const index = stop ? this.#data.stops.indexOf(stop) : 0;
    setAttribute(this.#plot, 'aria-valuenow', String(Math.max(0, index)));
    setAttribute(this.#plot, 'aria-valuetext', stop ? text : NOTHING_SELECTED);
    if (!this.#marker) return;
    setAttribute(this.#marker, 'visibility', stop || this.#drag ? 'visible' : 'hidden');
    if (!stop) return;
    const x = this.#x(this.#data.readings ? stop.start : (stop.start + stop.end) / 2).toFixed(1);
    setAttribute(this.#marker, 'x1', x);
    setAttribute(this.#marker, 'x2', x);
  }

  #nearest(at) {
    const middle = (one) => (one.start + (one.end ?? one.start)) / 2;
    return this.#data.stops.reduce((best, one) => (best && Math.abs(middle(best) - at) <= Math.abs(middle(one) - at) ? best : one), null);
  }

  #pointerTime(event) {
    return this.#at((event.clientX - this.#plot.getBoundingClientRect().left) / this.#scale);
  }

  #move(event) {
    if (!this.#data) return;
    const at = this.#pointerTime(event);
    if (this.#drag) this.#drag.mark.setAttribute('d', this.#dragShape(this.#drag.from, at));
    this.#select(this.#nearest(at));
  }

  #dragShape(from, to) {
    return `M${this.#x(from)} ${PAD.top}H${this.#x(to)}V${this.#height - PAD.bottom}H${this.#x(from)}Z`;
  }

  #press(event) {
    // A finger that moves scrolls the page, and one that taps reads a value.
    if (event.pointerType === 'touch') this.#move(event);
    if (!this.onZoom || !this.#data || event.button !== 0 || event.pointerType === 'touch') return;
    this.#plot.setPointerCapture(event.pointerId);
    this.#drag = { from: this.#pointerTime(event), mark: el('path', { class: 'drag' }) };
    this.#svg.append(this.#drag.mark);
  }

  #release(event) {
    const drag = this.#drag;
    if (!drag) return;
    this.#drag = null;
    drag.mark.remove();
    const to = this.#pointerTime(event);
    const [start, end] = [Math.min(drag.from, to), Math.max(drag.from, to)];
    if (Math.abs(this.#x(end) - this.#x(start)) > 8) this.onZoom(start, end);
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step || !this.#data?.stops.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const { stops } = this.#data;
    const index = this.#stop ? stops.indexOf(this.#stop) + step * (event.shiftKey ? 10 : 1) : step > 0 ? 0 : stops.length - 1;
    this.#select(stops[Math.min(stops.length - 1, Math.max(0, index))]);
  }

  /** Fills the table while it is open. */
  #fillTable() {
    const summary = this.#details.firstElementChild;
    if (!this.#details.open || !this.#data) return;
    const { readings, buckets, bucket, zone } = this.#data;
    this.#details.replaceChildren(summary, readings ? readingTable(readings, zone) : bucketTable(buckets, bucket, zone));
  }
}
