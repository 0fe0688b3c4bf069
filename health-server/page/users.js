// What the page knows of all users: the newest values of each, from GET /users and from the feed.

import { thresholds } from './thresholds.js';

const STALE_AFTER = thresholds.stale_s * 1000;
const METRICS = ['heart_rate', 'steps', 'calories'];

/** The newest values of a user. Times are milliseconds of Unix time; a value that was never seen is null. */
export class User {
  newest = -Infinity;
  source = '';
  heart_rate = null;
  steps = null;
  calories = null;
  /** When the feed last delivered a sample, or Infinity. A device whose clock is ahead would seem fresh for too long. */
  received = Infinity;
  times = { heart_rate: -Infinity, steps: -Infinity, calories: -Infinity };
  /** The buckets of the sparkline, and when the server was asked for them. */
  minutes = null;
  minutesAsked = -Infinity;

  constructor(id) {
    this.id = id;
  }

  /** Returns how old the newest sample is. */
  age(now) {
    return now - this.newest;
  }

  isStale(now) {
    return now - Math.min(this.newest, this.received) > STALE_AFTER;
  }

  /** Returns `high`, `low` or null. A stale heart rate is no alert: it says nothing about now. */
  alert(now) {
    if (this.heart_rate === null) return null;
    if (now - Math.min(this.times.heart_rate, this.received) > STALE_AFTER) return null;
    if (this.heart_rate >= thresholds.high) return 'high';
    return this.heart_rate < thresholds.low ? 'low' : null;
  }

  add(sample) {
    const at = Date.parse(sample.timestamp);
    for (const metric of METRICS) {
      if (sample[metric] !== undefined && at >= this.times[metric]) {
        this[metric] = sample[metric];
        this.times[metric] = at;
      }
    }
    if (at >= this.newest) {
      this.newest = at;
      this.source = sample.source;
    }
  }
}

/** All users by id. */
export class Users {
  #byId = new Map();

  get size() {
    return this.#byId.size;
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** Adds a sample and returns its user. */
  add(sample, received) {
    let user = this.#byId.get(sample.user_id);
    if (!user) this.#byId.set(sample.user_id, (user = new User(sample.user_id)));
    user.add(sample);
    if (received !== undefined) user.received = received;
    return user;
  }

  remove(id) {
    this.#byId.delete(id);
  }

  /** Removes the users that are not among these ids. */
  keepOnly(ids) {
    for (const id of this.#byId.keys()) if (!ids.has(id)) this.#byId.delete(id);
  }

  /** Lets all sparklines be asked for again. */
  forgetMinutes() {
    for (const user of this.#byId.values()) user.minutesAsked = -Infinity;
  }

  /** Counts the users with an alert and the stale ones. */
  totals(now) {
    let alerts = 0;
    let stale = 0;
    for (const user of this.#byId.values()) {
      if (user.isStale(now)) stale++;
      else if (user.alert(now)) alerts++;
    }
    return { alerts, stale };
  }

  /** Returns the users that match, in order. `find` is a part of an id or of a source. */
  select({ find, show, sort }, now) {
    const part = find.trim().toLowerCase();
    const selected = [];
    for (const user of this.#byId.values()) {
      if (part && !user.id.includes(part) && !user.source.toLowerCase().includes(part)) continue;
      if (show === 'alert' && !user.alert(now)) continue;
      if (show === 'stale' && !user.isStale(now)) continue;
      selected.push(user);
    }
    return selected.sort(ORDERS[sort]);
  }
}

/** Ids are digits without a leading zero, so the longer one is the larger one. */
const byUserId = (a, b) => a.id.length - b.id.length || (a.id < b.id ? -1 : 1);
/** Users without a value come last. */
const by = (value, sign) => (a, b) => {
  const [x, y] = [value(a), value(b)];
  if (x === y) return byUserId(a, b);
  if (x === null || y === null) return x === null ? 1 : -1;
  return sign * (x - y);
};
const ORDERS = {
  id: byUserId,
  heart_rate: by((user) => user.heart_rate, -1),
  heart_rate_low: by((user) => user.heart_rate, 1),
  steps: by((user) => user.steps, -1),
  calories: by((user) => user.calories, -1),
  newest: by((user) => user.newest, -1),
  oldest: by((user) => user.newest, 1),
};
