// The range form: the statistics of any user over any range, as the server answers them.

import { Answer } from './answer.js';
import { byId, el } from './dom.js';
import { now } from './server.js';
import { BUCKET_NAMES } from './table.js';
import { DAY, HOUR, MINUTE, fromField, toField, viewerZone, zoneOffset } from './text.js';

const PRESETS = {
  '15m': ['15 min', 15 * MINUTE, '1m'],
  '1h': ['1 hour', HOUR, '1m'],
  '24h': ['24 hours', DAY, '15m'],
  '7d': ['7 days', 7 * DAY, '1h'],
  '30d': ['30 days', 30 * DAY, '1d'],
};
/** The labels of the fields by their names, which are those of the server's parameters. */
const LABELS = { user_id: 'User', start: 'From', end: 'Until', bucket: 'One value for each', tz: 'Time zone' };
const FIELDS = Object.keys(LABELS);

/** The view with the form. */
export class RangeView {
  #form = byId('range-form');
  #error = byId('range-error');
  #answer = new Answer(byId('range-answer'), (start, end) => this.#look(start, end), { isAnnounced: true });
  #zone = viewerZone;
  /** Whether the person has just asked, and waits for the answer. */
  #isSubmitted = false;

  constructor() {
    const chip = (value, text) => el('label', {}, el('input', { type: 'radio', name: 'preset', value }), el('span', {}, text));
    byId('range-presets').append(...Object.entries(PRESETS).map(([value, [text]]) => chip(value, text)), chip('custom', 'Other'));
    byId('zones').append(...(Intl.supportedValuesOf?.('timeZone') ?? []).map((zone) => el('option', { value: zone })), el('option', { value: 'UTC' }));
    this.#form.tz.value = viewerZone;
    this.#form.addEventListener('change', (event) => this.#change(event.target));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#preset('24h');
  }

  /** Shows the form with what the address names, and asks if it is complete. */
  open(parameters) {
    const { elements } = this.#form;
    if (parameters.has('tz')) elements.tz.value = parameters.get('tz');
    const isZoneKnown = this.#readZone();
    if (parameters.has('user_id')) elements.user_id.value = parameters.get('user_id');
    if (parameters.has('preset')) this.#preset(parameters.get('preset'));
    for (const name of ['start', 'end', 'bucket']) if (parameters.has(name)) elements[name].value = parameters.get(name);
    if (parameters.has('start')) elements.preset.value = 'custom';
    if (!isZoneKnown) return;
    if (elements.user_id.value) this.#askForm();
    else elements.user_id.focus();
  }

  #preset(name) {
    const [, span, bucket] = PRESETS[name] ?? [];
    if (!span) return;
    const end = Math.ceil(now() / 1000) * 1000;
    const { elements } = this.#form;
    elements.preset.value = name;
    elements.start.value = toField(end - span, this.#zone);
    elements.end.value = toField(end, this.#zone);
    elements.bucket.value = bucket;
  }

  #change(field) {
    const { elements } = this.#form;
    if (field.name === 'preset') this.#preset(field.value);
    else if (field.name === 'start' || field.name === 'end') elements.preset.value = 'custom';
    else if (field.name === 'tz') {
      const times = ['start', 'end'].map((name) => [name, fromField(elements[name].value, this.#zone)]);
      if (!this.#readZone()) return;
      // The instants stay; the clock that shows them is another.
      for (const [name, at] of times) if (!Number.isNaN(at)) elements[name].value = toField(at, this.#zone);
    }
  }

  /** Takes the zone of the form if the browser knows it. */
  #readZone() {
    const zone = this.#form.tz.value.trim();
    try {
      zoneOffset(0, zone);
    } catch {
      this.#fail('tz', `Time zone: ${zone || 'nothing'} is not the name of a time zone, such as Europe/Berlin.`);
      return false;
    }
    this.#zone = zone;
    this.#fail(null, '');
    return true;
  }

  erased(erasure) {
    this.#answer.forget(erasure);
  }

  /** Says that the erasures of a user have come to an end. */
  settled() {
    if (this.#answer.isForgotten) this.askAgain();
  }

  /** Asks the last question again, also if the person has changed the form since. */
  askAgain() {
    if (this.#answer.question) this.#ask(this.#answer.question);
  }

  /** Writes the question into the address, which then asks it. */
  #submit() {
    const { elements } = this.#form;
    if (!this.#readZone()) return;
    // The view asks nothing as long as no user is in its address, so the server cannot say it.
    if (!elements.user_id.value.trim()) return this.#fail('user_id', 'User: enter the number of a user.');
    if (elements.preset.value !== 'custom') this.#preset(elements.preset.value);
    const names = elements.preset.value === 'custom' ? FIELDS : ['user_id', 'preset', 'bucket', 'tz'];
    const query = new URLSearchParams(names.map((name) => [name, elements[name].value.trim()]));
    const address = `#/range?${query}`;
    this.#isSubmitted = true;
    if (location.hash === address) this.#askForm();
    else location.hash = address;
  }

  #look(start, end) {
    const { elements } = this.#form;
    elements.preset.value = 'custom';
    elements.start.value = toField(Math.floor(start / 1000) * 1000, this.#zone);
    elements.end.value = toField(Math.ceil(end / 1000) * 1000, this.#zone);
    this.#submit();
  }

  #fail(name, text) {
    const { elements } = this.#form;
    for (const field of FIELDS) {
      elements[field].removeAttribute('aria-invalid');
      const hint = elements[field].dataset.hint;
      if (hint) elements[field].setAttribute('aria-describedby', hint);
      else elements[field].removeAttribute('aria-describedby');
    }
    const place = name ? elements[name].closest('.field') : this.#form;
    if (this.#error.parentNode !== place) place.append(this.#error);
    this.#error.textContent = withLabels(text);
    if (!name) return;
    elements[name].setAttribute('aria-invalid', 'true');
    elements[name].setAttribute('aria-describedby', ['range-error', elements[name].dataset.hint ?? ''].join(' ').trim());
    elements[name].focus();
  }

  #askForm() {
    const { elements } = this.#form;
    const [start, end] = [elements.start, elements.end].map((field) => fromField(field.value, this.#zone));
    // The server judges every value; only times must be read before they can be sent.
    if (Number.isNaN(start)) return this.#fail('start', 'From: enter a date and a time, up to the year 9999.');
    if (Number.isNaN(end)) return this.#fail('end', 'Until: enter a date and a time, up to the year 9999.');
    this.#ask({ user_id: elements.user_id.value.trim(), start, end, bucket: elements.bucket.value, tz: this.#zone });
  }

  async #ask(question) {
    this.#fail(null, '');
    try {
      const stats = await this.#answer.ask(question);
      if (stats && this.#isSubmitted) this.#showAnswer();
    } catch (error) {
      this.#fail(FIELDS.find((name) => error.message.includes(`${name} `) || error.message.startsWith(`${name}:`)) ?? null, error.message);
    }
  }
  /** Scrolls to an answer below the window: on a phone, the form fills it. */
  #showAnswer() {
    this.#isSubmitted = false;
    const answer = byId('range-answer');
    if (answer.getBoundingClientRect().top > innerHeight * 0.75) answer.scrollIntoView({ block: 'start' });
  }
}

/** Returns a sentence of the server with the labels of the form in place of its parameters. */
const withLabels = (text) =>
  text
    .replace(/\b(user_id|tz)\b/g, (name) => LABELS[name])
    .replace(/^bucket\b/, LABELS.bucket)
    .replace(/(\d+) buckets of (\w+)/, (_, many, size) => `${many} values of ${BUCKET_NAMES[size] ?? size} each`)
    .replace('choose wider buckets', 'choose a longer time')
    .replace(/^start is not earlier than end/, `${LABELS.start} is not earlier than ${LABELS.end}`);
