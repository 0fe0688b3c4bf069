// Asks the server for the sparklines of the tiles that can be seen, a few at a time, and again each minute.

import { getJson, now } from './server.js';
import { MINUTES } from './sparkline.js';
import { MINUTE, rfc3339 } from './text.js';

/** Requests at a time. */
const AT_ONCE = 3;
/** While the person scrolls, nothing is asked: a tile must be seen for this many milliseconds. */
const SEEN_MIN = 150;

/** Keeps the minutes of the visible users up to date. `changed` is called after some have arrived. */
export class MinuteQuery {
  #changed;
  #visible = [];
  #timer = 0;
  #asking = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Takes the users whose tiles can be seen now. */
  show(users) {
    this.#visible = users;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), SEEN_MIN);
  }

  #ask() {
    const minute = Math.floor(now() / MINUTE) * MINUTE;
    while (this.#asking < AT_ONCE) {
      const user = this.#visible.find((one) => one.minutesAsked < minute);
      if (!user) return;
      user.minutesAsked = minute;
      this.#asking++;
      this.#askFor(user, minute).finally(() => {
        this.#asking--;
        this.#ask();
      });
    }
  }

  async #askFor(user, minute) {
    const { forgotten } = user;
    const range = { start: rfc3339(minute - (MINUTES - 1) * MINUTE), end: rfc3339(minute + MINUTE) };
    try {
      const { buckets } = await getJson('/metrics/series', { user_id: user.id, ...range, bucket: '1m' });
      if (user.forgotten !== forgotten) return; // The answer may have what was erased.
      user.minutes = buckets.map((bucket) => bucket.average_heart_rate);
      this.#changed();
    } catch {
      // The connection says what is wrong; the next minute asks again.
    }
  }
}
