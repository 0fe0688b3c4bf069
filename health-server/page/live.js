// The live tiles. Only the rows that are on the screen exist as elements, so a frame costs the same for any number of
// users.

import { Alarms } from './alarms.js';
import { byId, el, put, setAttribute, setText } from './dom.js';
import { showNotice } from './notice.js';
import { now } from './server.js';
import { Sparkline } from './sparkline.js';
import { ALERTS, NONE, addedEnergy, addedSteps, age, count, counted } from './text.js';

/** Rows above and below the visible ones, so that scrolling shows no holes. */
const ROWS_AROUND = 2;
/** While nobody points at the tiles, they take their new order after this time. */
const ORDER_EVERY = 5000;
/** A longer id has smaller digits: those at its end tell it from others. */
const SHORT_ID_LENGTH = 11;
/** Characters of most ages. */
const AGE_LENGTH = 10;

/** The live view. It draws in one animation frame whatever changed since the last one. */
export class Live {
  #users;
  #list = byId('tiles');
  #message = byId('live-message');
  #choice = { find: '', show: 'all', sort: 'id' };
  #order = [];
  #orderedAt = 0;
  /** Whether users came or went, and whether even a tile under the pointer must take its new place. */
  #isOrderOld = true;
  #isForced = true;
  /** Tiles by position in the order, and those that are free. */
  #tiles = new Map();
  #free = [];
  #columns = 1;
  #size = { width: 1, height: 1 };
  #frame = 0;
  /** Whether a screen reader has yet to hear how many users the person's choice shows. */
  #isChoiceNew = false;
  /** What is shown while there are no users: `{title, text, action, run}`. */
  #notice = null;
  #feed;
  #alarms = new Alarms(() => this.#showAlerts());

  /**
   * `onVisible` is called with the users whose tiles can be seen. `feed` says up to when the page knows of the users.
   */
  constructor(users, feed, onVisible) {
    this.#users = users;
    this.#feed = feed;
    this.onVisible = onVisible;
    byId('find').addEventListener('input', (event) => this.#choose({ find: event.target.value }));
    byId('show').addEventListener('change', (event) => this.#choose({ show: event.target.value }));
    byId('sort').addEventListener('change', (event) => this.#choose({ sort: event.target.value }));
    this.#list.addEventListener('keydown', (event) => this.#key(event));
    addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(this.#list);
  }

  get order() {
    return this.#order;
  }

  /** Says that users came. */
  added() {
    this.#isOrderOld = true;
    this.draw();
  }

  /** Says that users went, or that many came at once: the tiles are arranged again in any case. */
  rearrange() {
    this.#isOrderOld = this.#isForced = true;
    this.draw();
  }

  /** Sets what is shown while there are no users: loading, empty, failed. */
  notice(notice) {
    this.#notice = notice;
    this.rearrange();
  }

  /** Draws in the next frame. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  showAll() {
    byId('find').value = '';
    byId('show').value = 'all';
    this.#choose({ find: '', show: 'all' });
  }

  #showAlerts() {
    byId('find').value = '';
    byId('show').value = 'alert';
    this.#choose({ find: '', show: 'alert' });
    byId('show').focus();
  }

  /** Counts the alerts, also while another view is shown. */
  count() {
    const totals = this.#users.totals(this.#feed.knownUntil, this.#alarms.most);
    this.#alarms.show(totals);
    return totals;
  }

  #choose(choice) {
    Object.assign(this.#choice, choice);
    this.#isChoiceNew = true;
    this.rearrange();
  }

  #measure() {
    const style = getComputedStyle(this.#list);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = parseFloat(style.getPropertyValue('--gap')) * rem;
    const least = parseFloat(style.getPropertyValue('--tile-width')) * rem;
    const width = this.#list.clientWidth;
    if (width === 0) return; // Another view is shown; this one will have the same size again.
    this.#columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
    this.#size = {
      width: (width - gap * (this.#columns - 1)) / this.#columns,
      height: parseFloat(style.getPropertyValue('--tile-height')) * rem,
      gap,
    };
    this.draw();
  }

  /** A tile under the pointer or with the focus must not run away. */
  get #isHeld() {
    return this.#list.matches(':hover') || this.#list.contains(document.activeElement);
  }

  #arrange(time) {
    const { sort, show } = this.#choice;
    const isMoving = (sort !== 'id' || show !== 'all') && time - this.#orderedAt > ORDER_EVERY;
    if (!this.#isOrderOld && !isMoving) return;
    const selected = this.#users.select(this.#choice, this.#feed.knownUntil);
    if (this.#isHeld && !this.#isForced) {
      const known = new Set(this.#order);
      this.#order = this.#order.concat(selected.filter((user) => !known.has(user)));
    } else {
      this.#order = selected;
    }
    this.#orderedAt = time;
    this.#isOrderOld = this.#isForced = false;
  }

  #draw() {
    const time = now();
    this.#arrange(time);
    this.#summarise();
    if (this.#list.clientWidth === 0) return; // Another view is shown.
    const { height, gap } = this.#size;
    const rowHeight = height + gap;
    const rows = Math.ceil(this.#order.length / this.#columns);
    this.#list.style.height = `${Math.max(0, rows * rowHeight - gap)}px`;
    const top = -this.#list.getBoundingClientRect().top;
    const firstVisible = Math.floor(top / rowHeight);
    const lastVisible = Math.ceil((top + innerHeight) / rowHeight);
    const position = (row) => Math.min(Math.max(0, row), rows) * this.#columns;
    const first = position(firstVisible - ROWS_AROUND);
    const last = Math.min(position(lastVisible + ROWS_AROUND), this.#order.length);
    this.#place(first, last, time);
    this.onVisible(this.#order.slice(position(firstVisible), position(lastVisible)));
  }

  /** Lets exactly the tiles of these positions exist, in order, and the focused one. */
  #place(first, last, time) {
    const { knownUntil } = this.#feed;
    let next = null;
    for (const [position, tile] of this.#tiles) {
      if (position >= first && position < last) continue;
      if (position < this.#order.length && tile.item.contains(document.activeElement)) {
        if (position >= last) next = tile.item;
        tile.show(this.#order[position], time, knownUntil);
        continue;
      }
      tile.item.remove();
      this.#free.push(tile);
      this.#tiles.delete(position);
    }
    for (let position = last - 1; position >= first; position--) {
      let tile = this.#tiles.get(position);
      if (!tile) {
        tile = this.#free.pop() ?? new Tile();
        this.#tiles.set(position, tile);
        this.#list.insertBefore(tile.item, next);
      }
      next = tile.item;
      tile.move(position, this.#order.length, this.#columns, this.#size);
      tile.show(this.#order[position], time, knownUntil);
    }
    // The Tab key enters the tiles once: at the focused tile or at the first.
    const focused = [...this.#tiles.values()].find((tile) => tile.item.contains(document.activeElement));
    const entry = focused ?? this.#tiles.get(first);
    for (const tile of this.#tiles.values()) setAttribute(tile.link, 'tabindex', tile === entry ? '0' : '-1');
  }

  #summarise() {
    const { size, alerts, stale } = this.count();
    const parts = [counted(size, 'user'), counted(alerts, 'alert'), `${count(stale)} silent`];
    const shown = this.#order.length === size ? '' : `${count(this.#order.length)} shown of `;
    setText(byId('live-summary'), size ? shown + parts.join(' · ') : '\u00a0');
    const notice = size ? NOBODY(() => this.showAll()) : this.#notice;
    showNotice(this.#message, this.#order.length ? null : notice);
    if (this.#isChoiceNew) setText(byId('found'), `${count(this.#order.length)} of ${counted(size, 'user')} shown`);
    this.#isChoiceNew = false;
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns }[event.key];
    const held = [...this.#tiles].find(([, tile]) => tile.item.contains(document.activeElement));
    if (!held || event.altKey || event.ctrlKey || event.metaKey) return;
    const end = this.#order.length - 1;
    const wanted = { Home: 0, End: end }[event.key] ?? (step && held[0] + step);
    if (wanted === undefined || wanted < 0 || wanted > end) return;
    event.preventDefault();
    this.#focus(wanted);
  }

  /** Moves the focus to the tile of a user, if there is one, and scrolls to it. */
  focus(id) {
    const position = this.#order.findIndex((user) => user.id === id);
    if (position >= 0) this.#focus(position);
  }

  #focus(wanted) {
    const top = this.#list.getBoundingClientRect().top + Math.floor(wanted / this.#columns) * (this.#size.height + this.#size.gap);
    const header = document.querySelector('header').offsetHeight + this.#size.gap;
    if (top < header) scrollBy(0, top - header);
    else if (top + this.#size.height > innerHeight) scrollBy(0, top + this.#size.height + this.#size.gap - innerHeight);
    this.#draw();
    this.#tiles.get(wanted)?.link.focus({ preventScroll: true });
    this.draw();
  }
}

const NOBODY = (run) => ({ title: 'No user matches', text: 'No number of a user and no device contains this text, or nobody is in this state.', action: 'Show everyone', run });

/** One tile. It is filled again for other users while the person scrolls. */
class Tile {
  #name = new Text();
  #age = new Text();
  #rate = new Text();
  #alert = new Text();
  #steps = new Text();
  #calories = new Text();
  #source = new Text();
  #sparkline = new Sparkline();
  #user = null;

  constructor() {
    this.link = el(
      'a',
      {},
      el('span', { class: 'name' }, el('span', { class: 'unit' }, 'User '), el('b', {}, this.#name)),
      el('span', { class: 'age' }, this.#age),
      el('span', { class: 'rate' }, el('b', {}, this.#rate), el('span', { class: 'unit' }, ' bpm '), el('span', { class: 'alert' }, this.#alert)),
      this.#sparkline.svg,
      el('span', { class: 'counts' }, el('span', { class: 'count' }, this.#steps), ' ', el('span', { class: 'count' }, this.#calories), ' ', el('span', { class: 'source' }, this.#source)),
    );
    this.item = el('li', { class: 'tile' }, this.link);
  }

  /** Places the tile at a position of the grid. */
  move(position, size, columns, { width, height, gap }) {
    const x = (position % columns) * (width + gap);
    const y = Math.floor(position / columns) * (height + gap);
    const { style } = this.item;
    const transform = `translate(${x}px, ${y}px)`;
    if (style.transform !== transform) style.transform = transform;
    const wide = `${width}px`;
    if (style.width !== wide) style.width = wide;
    setAttribute(this.item, 'aria-posinset', String(position + 1));
    setAttribute(this.item, 'aria-setsize', String(size));
  }

  /** Shows the newest values of a user. Only what differs is touched. */
  show(user, time, knownUntil) {
    if (this.#user !== user) {
      this.#user = user;
      setAttribute(this.link, 'href', `#/user/${user.id}`);
    }
    const alert = user.alert(knownUntil);
    const isStale = user.isStale(knownUntil);
    const isRateOld = user.isRateOld(knownUntil);
    setAttribute(this.item, 'data-state', alert ?? (isStale ? 'stale' : isRateOld ? 'old-rate' : 'live'));
    put(this.#name, user.id);
    setAttribute(this.#name.parentNode.parentNode, 'class', user.id.length > SHORT_ID_LENGTH ? 'name long' : 'name');
    // Spaces as wide as a digit, so that the text begins at the same place while it becomes longer.
    put(this.#age, (user.isEmpty ? NONE : age(user.age(time))).padStart(AGE_LENGTH, '\u2007'));
    put(this.#rate, user.heart_rate === null ? NONE : count(user.heart_rate));
    put(this.#alert, alert ? ALERTS[alert] : isStale ? 'silent' : isRateOld ? age(user.rateAge(time)) : '');
    // A unit in a text of its own would move with each digit.
    put(this.#steps, addedSteps(user.steps));
    put(this.#calories, addedEnergy(user.calories));
    put(this.#source, user.source);
    this.#sparkline.show(user.minutes, isStale || isRateOld ? null : user.heart_rate);
  }
}
