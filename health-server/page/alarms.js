// Who has an alert, at a glance: a row with the first of them above the tiles, and their number in the header of every
// view.

import { byId, el, put, setAttribute, setText } from './dom.js';
import { ALERTS, count, counted } from './text.js';

/** The largest number in the header, where there is little room. */
const COUNT_MAX = 999;
/** A screen reader hears of new alerts once in this time at most; it would never end otherwise. */
const ANNOUNCE_EVERY = 10_000;

/** The row and the number. The row has one line, whoever has an alert, so that nothing below it moves. */
export class Alarms {
  #list = byId('alarms');
  #nobody = el('li', { class: 'nobody' }, 'No alerts');
  #more;
  #places = [];
  #columns = 1;
  #totals = null;
  /** How many alerts a screen reader knows of, the first users with one, and when it heard the last words. */
  #known = { alerts: 0, users: new Set(), at: 0 };

  /** `showAll` is called if the person wants to see the tiles of everybody with an alert. */
  constructor(showAll) {
    this.#more = el('li', {}, el('button', { type: 'button', on: { click: showAll } }));
    new ResizeObserver(() => this.#measure()).observe(this.#list);
  }

  /** The most users that the row has a place for. */
  get most() {
    return this.#columns;
  }

  /** Shows `{size, alerts, first}`: all users, those with an alert, and the first of these as `[user, alert]`. */
  show(totals) {
    this.#totals = totals;
    const { size, alerts, first } = totals;
    setText(byId('alarm-count'), alerts > COUNT_MAX ? `${COUNT_MAX}+` : alerts ? count(alerts) : '');
    setText(byId('alarm-words'), alerts ? `, ${counted(alerts, 'alert')}` : '');
    this.#announce(alerts, first);
    if (this.#list.clientWidth === 0) return; // Another view is shown.
    const shown = first.slice(0, alerts > this.#columns ? Math.max(1, this.#columns - 1) : this.#columns);
    while (this.#places.length < shown.length) this.#places.push(new Place());
    shown.forEach(([user, alert], index) => this.#places[index].show(user, alert));
    const rest = alerts - shown.length;
    setText(this.#more.firstChild, `+${count(rest)} more`);
    const items = this.#places.slice(0, shown.length).map((place) => place.item);
    this.#fill([...items, ...(rest > 0 ? [this.#more] : []), ...(size && !alerts ? [this.#nobody] : [])]);
  }

  /** Says how many alerts there are if they became more. It names the user if there is only one who is new. */
  #announce(alerts, first) {
    const known = this.#known;
    const ids = first.map(([user]) => user.id);
    known.alerts = Math.min(known.alerts, alerts);
    for (const id of known.users) if (!ids.includes(id)) known.users.delete(id);
    if (alerts === known.alerts || Date.now() - known.at < ANNOUNCE_EVERY) return;
    const added = first.filter(([user]) => !known.users.has(user.id));
    const one = alerts === first.length && added.length === 1 ? `: ${words(...added[0])}` : '';
    setText(byId('alarm-news'), `${counted(alerts, 'alert')}${one}`);
    this.#known = { alerts, users: new Set(ids), at: Date.now() };
  }

  /** Lets exactly these items be in the row. One that has the focus keeps it. */
  #fill(items) {
    for (const item of [...this.#list.children]) if (!items.includes(item)) item.remove();
    items.forEach((item, index) => {
      if (this.#list.children[index] !== item) this.#list.insertBefore(item, this.#list.children[index] ?? null);
    });
  }

  /** Counts the places of the row as the style lays them out. */
  #measure() {
    if (this.#list.clientWidth === 0) return;
    this.#columns = getComputedStyle(this.#list).gridTemplateColumns.split(' ').length;
    if (this.#totals) this.show(this.#totals);
  }
}

/** Returns a user's alert in words. */
const words = (user, alert) => `user ${user.id}, ${ALERTS[alert].split(' ')[1]}, ${count(user.heart_rate)} bpm`;

/** The place of one user in the row. */
class Place {
  #sign = new Text();
  #words = new Text();
  #id = new Text();
  #rate = new Text();

  constructor() {
    this.link = el(
      'a',
      { class: 'alarm' },
      el('span', { class: 'unseen' }, this.#words),
      el('span', { 'aria-hidden': 'true' }, this.#sign),
      el('span', { class: 'who', 'aria-hidden': 'true' }, this.#id),
      el('b', {}, this.#rate),
      el('span', { class: 'unit' }, ' bpm'),
    );
    this.item = el('li', {}, this.link);
  }

  show(user, alert) {
    setAttribute(this.link, 'href', `#/user/${user.id}`);
    setAttribute(this.link, 'data-state', alert);
    const [sign, word] = ALERTS[alert].split(' ');
    put(this.#words, `User ${user.id}, ${word}, `);
    put(this.#sign, sign);
    put(this.#id, user.id);
    put(this.#rate, count(user.heart_rate));
  }
}
