// The tables behind the charts, and a bucket or a reading as one sentence.

import { el } from './dom.js';
import { count, counted, decimal, moment } from './text.js';

/** Rows that a table shows at once. A series may have 11 000 buckets. */
const ROWS = 200;

const named = (source) => source || 'unnamed device';

/** Returns "2 Mar, 18:05:09: 72 bpm, 5 steps, 0.3 kcal, watch". */
export function readingText(one, zone) {
  const parts = [];
  if (one.heart_rate !== undefined) parts.push(`${decimal(one.heart_rate)} bpm`);
  if (one.steps !== undefined) parts.push(counted(one.steps, 'step'));
  if (one.calories !== undefined) parts.push(`${decimal(one.calories)} kcal`);
  return `${moment(one.start, zone)}: ${[...parts, named(one.source)].join(', ')}`;
}

/** Returns "2 Mar, 18:05:00 to 2 Mar, 18:06:00: 72.0 bpm (61 to 80), 340 steps, 12.5 kcal". */
export function bucketText(one, zone) {
  const rate = one.average_heart_rate === null ? 'no heart rate' : `${decimal(one.average_heart_rate)} bpm (${count(one.min_heart_rate)} to ${count(one.max_heart_rate)})`;
  return `${moment(one.start, zone)} to ${moment(one.end, zone)}: ${rate}, ${counted(one.total_steps, 'step')}, ${decimal(one.total_calories)} kcal`;
}

/** The sizes of buckets, by the server's name for each. */
export const BUCKET_NAMES = { '1m': '1 minute', '5m': '5 minutes', '15m': '15 minutes', '1h': '1 hour', '1d': '1 day', '1w': '1 week' };

/** Returns a table of the buckets of a series. */
export const bucketTable = (buckets, bucket, zone) =>
  table(`One row for each ${BUCKET_NAMES[bucket].replace(/^1 /, '')}`, buckets, [
    ['Start', (one) => moment(one.start, zone)],
    ['Average, bpm', (one) => decimal(one.average_heart_rate)],
    ['Lowest, bpm', (one) => count(one.min_heart_rate)],
    ['Highest, bpm', (one) => count(one.max_heart_rate)],
    ['Steps', (one) => count(one.total_steps)],
    ['Calories, kcal', (one) => decimal(one.total_calories)],
    ['Samples', (one) => count(one.samples)],
  ]);

/** Returns a table of samples. */
export const readingTable = (readings, zone) =>
  table('Each sample', readings, [
    ['Time', (one) => moment(one.start, zone)],
    ['Heart rate, bpm', (one) => decimal(one.heart_rate)],
    ['Steps', (one) => count(one.steps)],
    ['Calories, kcal', (one) => decimal(one.calories)],
    ['Device', (one) => named(one.source)],
  ]);

/** Returns a table of the totals of each source, which people call a device. */
export const sourceTable = (sources) =>
  table('By device. What two devices have both counted is in both rows', sources, [
    ['Device', (one) => named(one.source)],
    ['Samples', (one) => count(one.samples)],
    ['Steps', (one) => count(one.steps)],
    ['Calories, kcal', (one) => decimal(one.calories)],
  ]);

/**
 * Returns a table with a column for each `[title, text]`, and a button if there are more rows. The first column names
 * the row.
 */
function table(title, items, columns) {
  const body = el('tbody');
  const more = el('button', { type: 'button' });
  const wrapper = el(
    'div',
    { class: 'table', role: 'region', tabindex: '0', 'aria-label': title },
    el('table', {}, el('caption', {}, title), el('thead', {}, el('tr', {}, ...columns.map(([name]) => el('th', { scope: 'col' }, name)))), body),
    more,
  );
  const add = () => {
    const from = body.rows.length;
    for (const item of items.slice(from, from + ROWS)) {
      const cells = columns.map(([, text], index) => (index ? el('td', {}, text(item)) : el('th', { scope: 'row' }, text(item))));
      body.append(el('tr', {}, ...cells));
    }
    const rest = items.length - body.rows.length;
    more.textContent = `Show ${count(Math.min(ROWS, rest))} more of ${count(rest)}`;
    more.hidden = rest <= 0;
  };
  more.addEventListener('click', add);
  add();
  return wrapper;
}
