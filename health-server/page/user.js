// The view of one user: the newest values, and a chart of a time window that follows the present or stays in the past.

import { Answer } from './answer.js';
import { byId, el, put, setText } from './dom.js';
import { showNotice } from './notice.js';
import { newestSample, now } from './server.js';
import { ALERTS, DAY, HOUR, MINUTE, NONE, addedEnergy, addedSteps, age, count, duration, viewerZone } from './text.js';

const SPANS = [15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY];
const SPAN_MIN = MINUTE;
const SPAN_MAX = 3660 * DAY;
/** The end of the year 9999, after which RFC 3339 has no times. */
const END_MAX = Date.UTC(9999, 11, 31);
const BUCKETS = [['1m', MINUTE], ['5m', 5 * MINUTE], ['15m', 15 * MINUTE], ['1h', HOUR], ['1d', DAY], ['1w', 7 * DAY]];
/** More buckets than this are narrower than a few pixels. */
const BUCKETS_MAX = 400;
/** A window that follows the present asks again after this share of its length, and after 5 s at the earliest. */
const REFRESH_SHARE = 1 / 1000;
const REFRESH_MIN = 5000;

/** Returns the smallest bucket that is wide enough for a chart of this span. */
export const bucketFor = (span) => (BUCKETS.find(([, size]) => span / size <= BUCKETS_MAX) ?? BUCKETS.at(-1))[0];

/** The view of one user. */
export class UserView {
  #users;
  #feed;
  #id = null;
  #span = HOUR;
  /** The end of the window, or null if it follows the present. */
  #end = null;
  #askedAt = -Infinity;
  #isChanged = false;
  #answer = new Answer(byId('user-answer'), (start, end) => this.#look(end - start, end), { isChartFirst: true });
  #message = el('div', { class: 'card message', role: 'alert', hidden: true });
  #buttons;
  #follow;
  #length = el('output', {});
  #rate = new Text();
  #rest = new Text();
  #alert = new Text();

  /** `feed` says up to when the page knows of the users. */
  constructor(users, feed) {
    this.#users = users;
    this.#feed = feed;
    byId('user-answer').prepend(this.#message);
    byId('user-now').append(el('span', { class: 'alert' }, this.#alert), el('b', {}, this.#rate), this.#rest);
    const button = (text, run, attributes = {}) => el('button', { type: 'button', on: { click: run }, ...attributes }, text);
    this.#buttons = SPANS.map((span) => [span, button(duration(span), () => this.#look(span, this.#end))]);
    this.#follow = button('Follow', () => this.#look(this.#span, null), { 'aria-pressed': 'true' });
    byId('user-window').append(
      el('div', { class: 'chips lengths', role: 'group', 'aria-label': 'Length' }, ...this.#buttons.map(([, node]) => node)),
      el(
        'div',
        { class: 'chips' },
        button('←', () => this.#pan(-1), { 'aria-label': 'Earlier', title: 'Earlier' }),
        button('→', () => this.#pan(1), { 'aria-label': 'Later', title: 'Later' }),
        button('−', () => this.#zoom(2), { 'aria-label': 'Zoom out', title: 'Zoom out' }),
        button('+', () => this.#zoom(0.5), { 'aria-label': 'Zoom in', title: 'Zoom in' }),
        this.#follow,
      ),
      this.#length,
    );
  }

  /** Shows a user, with the window that the address names. */
  open(id, parameters) {
    if (id !== this.#id) this.#answer.clear();
    this.#id = id;
    setText(byId('user-title'), `User ${id}`);
    const [span, end] = [Number(parameters.get('span')), Number(parameters.get('end'))];
    this.#span = span >= SPAN_MIN && span <= SPAN_MAX ? span : HOUR;
    this.#end = end > 0 && end <= END_MAX ? end : null;
    this.#showControls();
    this.#ask(false);
    // The list of all users may still be on its way.
    if (!this.#users.get(id)) this.#askNewest();
  }

  async #askNewest() {
    const { erasures } = this.#users;
    const sample = await newestSample(this.#id).catch(() => null);
    if (sample) this.#users.addAnswer(sample, erasures);
    this.tick();
  }

  close() {
    this.#id = null;
    this.#answer.clear();
  }

  /** Says that the feed brought a sample of a user. */
  changed(id) {
    if (id === this.#id) this.#isChanged = true;
  }

  erased(erasure) {
    this.#answer.forget(erasure);
    if (erasure.user_id === this.#id) this.tick();
  }

  /** Says that the erasures of a user have come to an end. */
  settled(id) {
    if (id !== this.#id) return;
    if (this.#answer.isForgotten) this.#ask(false);
    this.tick();
  }

  askAgain() {
    if (this.#id) this.#ask(false);
  }

  /** Called each second while the view is open. */
  tick() {
    const time = now();
    const { knownUntil } = this.#feed;
    const user = this.#users.get(this.#id);
    const alert = user?.alert(knownUntil);
    const isKnown = user && !user.isEmpty;
    const isStale = isKnown && user.isStale(knownUntil);
    const rateAge = isKnown && user.isRateOld(knownUntil) && !isStale ? ` ${age(user.rateAge(time))}` : '';
    const values = isKnown && [
      ` bpm${rateAge}`,
      addedSteps(user.steps),
      addedEnergy(user.calories),
      isStale ? `silent, ${age(user.age(time))}` : age(user.age(time)),
    ];
    put(this.#alert, alert ? ALERTS[alert] : '');
    put(this.#rate, isKnown ? (user.heart_rate === null ? NONE : count(user.heart_rate)) : '');
    put(this.#rest, isKnown ? values.filter(Boolean).join(' · ') : '');
    byId('user-now').dataset.state = alert ?? (isStale || rateAge ? 'stale' : '');
    const isDue = time - this.#askedAt > Math.max(REFRESH_MIN, this.#span * REFRESH_SHARE);
    if (isDue && this.#isChanged && this.#end === null) this.#ask(true);
  }

  /** Handles a key that was pressed anywhere in the view. Returns whether it was one of ours. */
  key(key) {
    const run = {
      '+': () => this.#zoom(0.5),
      '=': () => this.#zoom(0.5),
      '-': () => this.#zoom(2),
      PageUp: () => this.#pan(-1),
      PageDown: () => this.#pan(1),
      End: () => this.#look(this.#span, null),
    }[key];
    run?.();
    return run !== undefined;
  }

  #pan(direction) {
    const end = (this.#end ?? now()) + (direction * this.#span) / 2;
    this.#look(this.#span, end >= now() ? null : end);
  }

  /** Zooms around the middle, or around the present while the window follows it. */
  #zoom(factor) {
    const span = Math.min(SPAN_MAX, Math.max(SPAN_MIN, this.#span * factor));
    const end = this.#end === null ? null : this.#end + (span - this.#span) / 2;
    this.#look(span, end !== null && end >= now() ? null : end);
  }

  /** Moves the window, and writes it into the address so that a reload and a bookmark show the same. */
  #look(span, end) {
    this.#span = Math.round(Math.min(SPAN_MAX, Math.max(SPAN_MIN, span)));
    this.#end = end === null ? null : Math.round(end);
    const window = `span=${this.#span}${this.#end === null ? '' : `&end=${this.#end}`}`;
    history.replaceState(null, '', `#/user/${this.#id}?${window}`);
    this.#showControls();
    this.#ask(false);
  }

  #showControls() {
    for (const [span, button] of this.#buttons) button.setAttribute('aria-pressed', String(span === this.#span));
    this.#follow.setAttribute('aria-pressed', String(this.#end === null));
    setText(this.#length, `${duration(this.#span)}${this.#end === null ? ', up to now' : ''}`);
  }

  async #ask(isQuiet) {
    const time = now();
    this.#askedAt = time;
    this.#isChanged = false;
    // The next whole second, so that a sample of this moment is inside of the half-open range.
    const end = this.#end ?? Math.ceil(time / 1000) * 1000 + 1000;
    try {
      await this.#answer.ask({ user_id: this.#id, start: end - this.#span, end, bucket: bucketFor(this.#span), tz: viewerZone }, isQuiet);
      showNotice(this.#message, null);
    } catch (error) {
      showNotice(this.#message, { title: 'No answer', text: error.message, action: 'Ask again', run: () => this.#ask(false) });
    }
  }
}
