// The server's answer about one user and one range: the numbers of /metrics, a chart of /metrics/series, and the
// sources.

import { Chart } from './chart.js';
import { el, setText } from './dom.js';
import { showNotice } from './notice.js';
import { get, getJson, parse } from './server.js';
import { HOUR, NONE, count, decimal, fullRange, rfc3339 } from './text.js';
import { sourceTable } from './table.js';

/** Ranges up to this length show each sample, unless there are too many to tell them apart. */
const SAMPLES_RANGE_MAX = HOUR;
const SAMPLES_MAX = 4000;

/** The part of a view that shows an answer. It keeps the last one while the next is on its way. */
export class Answer {
  #root;
  /** The last question, or null. */
  #question = null;
  #request = null;
  /** Whether an erasure has taken the answer away. */
  #isForgotten = false;
  #range = el('p', { class: 'note', hidden: true });
  #numbers = el('dl', { class: 'numbers' });
  #message = el('div', { class: 'card message', role: 'status', hidden: true });
  #sources = el('div');
  #chart;
  #body;

  /**
   * `isChartFirst` puts the chart above the numbers. `isAnnounced` lets a screen reader say that an answer has come,
   * for a view that asks only if the person does.
   */
  constructor(root, onZoom, { isChartFirst = false, isAnnounced = false }) {
    this.#root = root;
    this.#chart = new Chart(onZoom);
    const parts = isChartFirst ? [this.#chart.element, this.#numbers] : [this.#numbers, this.#chart.element];
    this.#body = el('div', { class: 'answer', hidden: true }, ...parts, this.#sources);
    if (isAnnounced) this.#range.setAttribute('role', 'status');
    root.append(this.#range, this.#message, this.#body);
  }

  /** The last question, or null. */
  get question() {
    return this.#question;
  }

  /** Takes everything away, because another user was chosen. */
  clear() {
    this.#request?.abort();
    this.#question = null;
    this.#empty();
    showNotice(this.#message, null);
  }

  /** Takes the answer away if it may have what was erased. */
  forget({ user_id: id, start, end }) {
    const question = this.#question;
    if (!question || withoutZeros(question.user_id) !== id) return;
    if (start !== undefined && (Date.parse(start) >= question.end || Date.parse(end) < question.start)) return;
    this.#request.abort();
    this.#isForgotten = true;
    this.#empty();
    showNotice(this.#message, { title: 'Samples were erased', text: 'Asking the server what is left…' });
  }

  /** Returns whether the answer was taken away, and no question was asked since. */
  get isForgotten() {
    return this.#isForgotten;
  }

  #empty() {
    this.#body.hidden = this.#range.hidden = true;
    this.#numbers.replaceChildren();
    this.#sources.replaceChildren();
    this.#chart.clear();
  }

  /**
   * Asks the server and shows what it answers. Throws the Problem if it refuses. Times are milliseconds.
   * An answer that a later question has overtaken is dropped.
   */
  async ask(question, isQuiet = false) {
    this.#request?.abort();
    const { signal } = (this.#request = new AbortController());
    this.#question = question;
    this.#isForgotten = false;
    const { user_id, start, end, bucket, tz } = question;
    const range = { user_id, start: rfc3339(start), end: rfc3339(end) };
    if (!isQuiet) this.#root.setAttribute('aria-busy', 'true');
    if (this.#body.hidden) showNotice(this.#message, { title: 'Asking the server…', text: '' });
    try {
      const [stats, series, readings] = await Promise.all([
        getJson('/metrics', range, { signal }),
        getJson('/metrics/series', { ...range, bucket, tz }, { signal }),
        end - start <= SAMPLES_RANGE_MAX ? samples(range, signal) : null,
      ]);
      this.#show({ stats, series, readings, tz, start, end });
      return stats;
    } catch (error) {
      if (signal.aborted) return null;
      this.#empty();
      showNotice(this.#message, null);
      throw error;
    } finally {
      if (!signal.aborted) this.#root.removeAttribute('aria-busy');
    }
  }

  #show({ stats, series, readings, tz, start, end }) {
    const isEmpty = stats.samples === 0;
    showNotice(this.#message, isEmpty ? { title: stats.message, text: `User ${stats.user_id} has no samples in this range.` } : null);
    setText(this.#range, `User ${stats.user_id}, ${fullRange(start, end, tz)}, ${tz}`);
    this.#range.hidden = false;
    this.#numbers.replaceChildren(...numbers(stats));
    const buckets = series.buckets.map((one) => ({ ...one, start: Date.parse(one.start), end: Date.parse(one.end) }));
    this.#body.hidden = false;
    this.#chart.element.hidden = this.#numbers.hidden = isEmpty;
    this.#chart.show({ buckets, bucket: series.bucket, readings, start, end, zone: tz, label: `Heart rate and steps of user ${stats.user_id}` });
    this.#sources.replaceChildren(isEmpty ? '' : sourceTable(stats.sources));
  }
}

/** Returns an id as the server writes it. */
const withoutZeros = (id) => id.replace(/^\+?0*/, '');

/** Returns the samples of a range, or null if there are too many for a chart. */
async function samples(range, signal) {
  const response = await get('/samples', range, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const found = [];
  for (let rest = ''; ; ) {
    const { done, value } = await reader.read();
    if (done) return found;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      const sample = parse(line);
      found.push({ ...sample, start: Date.parse(sample.timestamp) });
    }
    if (found.length > SAMPLES_MAX) {
      await reader.cancel();
      return null;
    }
  }
}

function numbers(stats) {
  const share = stats.heart_rate_coverage * 100;
  const one = (name, value, unit, note) =>
    el('div', {}, el('dt', {}, name), el('dd', {}, el('b', {}, value), value === NONE || !unit ? '' : ` ${unit}`, note ? el('small', {}, note) : ''));
  return [
    one('Average heart rate', decimal(stats.average_heart_rate), 'bpm', 'mean of all readings'),
    one('Average over time', decimal(stats.time_weighted_heart_rate), 'bpm', `readings cover ${decimal(share)}\u00a0% of the time`),
    one('Lowest', decimal(stats.min_heart_rate), 'bpm'),
    one('Highest', decimal(stats.max_heart_rate), 'bpm'),
    one('Steps', count(stats.total_steps), 'steps'),
    one('Calories', decimal(stats.total_calories), 'kcal'),
    one('Samples', count(stats.samples)),
  ];
}
