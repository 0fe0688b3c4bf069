// What the page knows of all users: the newest values of each, from GET /users and from the feed.

import { MINUTES } from './sparkline.js';
import { MINUTE } from './text.js';
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
  /**
   * When the feed last delivered a sample, or Infinity. A device whose clock is ahead would seem fresh for too long.
   */
  received = Infinity;
  times = { heart_rate: -Infinity, steps: -Infinity, calories: -Infinity };
  sources = { heart_rate: '', steps: '', calories: '' };
  /** The buckets of the sparkline, and when the server was asked for them. */
  minutes = null;
  minutesAsked = -Infinity;
  /** How often something was forgotten. An answer to an earlier question may still have it. */
  forgotten = 0;
  /** Whether events were missed: the next sample replaces all values, because any of them may have been erased. */
  isDoubtful = false;

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

  /** Returns whether there is a heart rate that says nothing about now, perhaps because only steps came since. */
  isRateOld(now) {
    return this.heart_rate !== null && now - Math.min(this.times.heart_rate, this.received) > STALE_AFTER;
  }

  /** Returns how old the heart rate is. */
  rateAge(now) {
    return now - this.times.heart_rate;
  }

  /** Returns `high`, `low` or null. An old heart rate is no alert. */
  alert(now) {
    if (this.heart_rate === null || this.isRateOld(now)) return null;
    if (this.heart_rate >= thresholds.high) return 'high';
    return this.heart_rate < thresholds.low ? 'low' : null;
  }

  /** Returns whether there is nothing to show. */
  get isEmpty() {
    return this.newest === -Infinity;
  }

  add(sample) {
    if (this.isDoubtful) this.#forgetAll();
    const at = Date.parse(sample.timestamp);
    for (const metric of METRICS) {
      if (sample[metric] !== undefined && at >= this.times[metric]) {
        this[metric] = sample[metric];
        this.times[metric] = at;
        this.sources[metric] = sample.source;
      }
    }
    if (at >= this.newest) {
      this.newest = at;
      this.source = sample.source;
    }
  }

  /** Forgets what an erasure of a range covers. */
  forget({ start, end, source }, now) {
    if (this.isDoubtful) return this.#forgetAll();
    const [from, to] = [Date.parse(start), Date.parse(end)];
    // Times have milliseconds here and microseconds on the server: rather forget a value too many than show an erased
    // one.
    const isErased = (at, device) => at >= from && at <= to && (source === undefined || source === device);
    for (const metric of METRICS) {
      if (!isErased(this.times[metric], this.sources[metric])) continue;
      this[metric] = null;
      this.times[metric] = -Infinity;
    }
    if (isErased(this.newest, this.source)) {
      const newest = METRICS.reduce((a, b) => (this.times[b] > this.times[a] ? b : a));
      this.newest = this.times[newest];
      this.source = this.isEmpty ? '' : this.sources[newest];
    }
    if (to > now - (MINUTES + 1) * MINUTE) this.#forgetMinutes();
  }

  #forgetAll() {
    this.isDoubtful = false;
    this.newest = -Infinity;
    this.source = '';
    this.received = Infinity;
    for (const metric of METRICS) {
      this[metric] = null;
      this.times[metric] = -Infinity;
    }
    this.#forgetMinutes();
  }

  #forgetMinutes() {
    this.forgotten++;
    this.minutes = null;
    this.minutesAsked = -Infinity;
  }
}

/** All users by id. */
export class Users {
  #byId = new Map();
  /** The number of each user's last erasure. */
  #erasedAt = new Map();
  /** The number of erasures so far. */
  erasures = 0;

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

  /** Returns whether samples of a user were erased after there had been so many erasures. */
  wasErasedSince(id, erasures) {
    return (this.#erasedAt.get(id) ?? 0) > erasures;
  }

  /** Adds a sample of an answer, unless the user had an erasure after the question: the sample may be erased. */
  addAnswer(sample, erasuresAtQuestion) {
    if (!this.wasErasedSince(sample.user_id, erasuresAtQuestion)) this.add(sample);
  }

  /** Forgets what was erased. */
  erase(erasure, now) {
    const id = erasure.user_id;
    this.#erasedAt.set(id, ++this.erasures);
    if (erasure.start === undefined) this.remove(id);
    else this.#byId.get(id)?.forget(erasure, now);
  }

  remove(id) {
    this.#byId.delete(id);
  }

  /** Says that events were missed: what is known of a user counts only until the next word of the server. */
  doubt() {
    for (const user of this.#byId.values()) user.isDoubtful = true;
  }

  /** Removes the users of whom the server has said nothing since. */
  removeDoubtful() {
    for (const user of this.#byId.values()) if (user.isDoubtful) this.remove(user.id);
  }

  /**
   * Counts all users, those with an alert and the stale ones. `first` has the first `most` with an alert: `[user,
   * alert]`.
   */
  totals(now, most) {
    let alerts = 0;
    let stale = 0;
    const first = [];
    for (const user of this.#byId.values()) {
      if (user.isStale(now)) {
        stale++;
        continue;
      }
      const alert = user.alert(now);
      if (!alert) continue;
      alerts++;
      if (first.length === most && byUserId(first.at(-1)[0], user) < 0) continue;
      const place = first.findIndex(([other]) => byUserId(user, other) < 0);
      first.splice(place < 0 ? first.length : place, 0, [user, alert]);
      if (first.length > most) first.pop();
    }
    return { size: this.size, alerts, stale, first };
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
