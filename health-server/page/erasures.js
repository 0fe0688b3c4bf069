// What the page does after an erasure. What was erased disappears at once; then the page asks what is left.

import { newestSample } from './server.js';

/** A large erasure comes in parts. The page asks after this time without another part, in milliseconds. */
const SETTLED_AFTER = 200;
/** The pause after a question that failed, in milliseconds. */
const PAUSE = 5000;

/** The users of whom samples were erased, until the server has said what is left. */
export class Erasures {
  #users;
  #settled;
  #timers = new Map();

  /**
   * `settled(id)` is called when the erasures of a user have come to an end, and again when the newest sample is known.
   */
  constructor(users, settled) {
    this.#users = users;
    this.#settled = settled;
  }

  /** Forgets what was erased, and asks soon what is left. */
  add(erasure, now) {
    this.#users.erase(erasure, now);
    this.#askAfter(erasure.user_id, SETTLED_AFTER);
  }

  #askAfter(id, wait) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.#ask(id), wait));
  }

  async #ask(id) {
    this.#timers.delete(id);
    this.#settled(id);
    const { erasures } = this.#users;
    try {
      const sample = await newestSample(id);
      if (sample) this.#users.addAnswer(sample, erasures);
      // A sample that has arrived meanwhile is not in the answer.
      else if (this.#users.get(id)?.isEmpty) this.#users.remove(id);
      this.#settled(id);
    } catch {
      if (!this.#timers.has(id)) this.#askAfter(id, PAUSE);
    }
  }
}
