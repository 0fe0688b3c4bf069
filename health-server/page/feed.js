// The live feed: one connection at a time, which resumes after the last event that arrived.

import { EventParser } from './events.js';
import { NOT_OURS, Problem, get, now, parse } from './server.js';

/** Pauses between two attempts double between these, in milliseconds. */
const PAUSE_MIN = 500;
const PAUSE_MAX = 10_000;
/** The server sends a heartbeat every 5 s. After three of them are missing, the connection counts as lost. */
const SILENCE_MAX = 15_000;
const SILENT = 'The server has been silent for too long.';
const HELD_BACK = 'The feed brings nothing. A proxy between the server and this page may hold it back.';

/** Follows the feed over all connections. */
export class Feed {
  /**
   * `connecting`, `live`, `waiting` or `token`, with `detail`, a sentence, and `retryAt`, the time of the next attempt.
   */
  state = { name: 'connecting', detail: '', retryAt: 0 };

  #listeners;
  #cursor = '';
  #every = 0;
  /** When the feed last brought something, by the viewer's clock; before that, when the page was opened. */
  #heardAt = Date.now();
  #hasBegun = false;
  #connection = null;
  #isPaused = false;
  #wake = () => {};

  /**
   * `listeners` has `state()`, `event(name, data)`, `batchEnd()` after the events that arrived together, and `every()`:
   * the interval in milliseconds at which the server may send samples of a user.
   */
  constructor(listeners) {
    this.#listeners = listeners;
  }

  /** Whether the feed has brought something since the page was opened. */
  get hasBegun() {
    return this.#hasBegun;
  }

  /**
   * The time up to which the page knows what the server knows: the present while the feed is live. Whether a user is
   * silent or has an alert is judged at this time, because a page without a connection hears nothing of anybody.
   */
  get knownUntil() {
    return this.state.name === 'live' ? now() : this.#heardAt + (now() - Date.now());
  }

  /** Follows the feed for as long as the page lives. */
  async run() {
    for (let attempt = 0; ; ) {
      if (this.#isPaused || this.state.name !== 'live') this.#set('connecting');
      if (this.#isPaused) await this.#sleep(null);
      let reason, pause;
      try {
        ({ reason, pause } = await this.#connect(() => { attempt = 0; }));
      } catch (error) {
        if (!(error instanceof Problem)) console.error(error);
        reason = error instanceof Problem ? error.message : 'The page could not read the answer of the server.';
        pause = (error.retryAfter ?? 0) * 1000;
        if (error.status === 401 || error.status === 403) {
          this.#set('token', reason);
          await this.#sleep(null);
          continue;
        }
      }
      if (reason === null || this.#isPaused) continue; // The page itself wanted the end of the connection.
      // Full jitter, so that the pages of a restarted server do not all come back at once.
      const backoff = Math.min(PAUSE_MAX, PAUSE_MIN * 2 ** attempt++);
      const wait = Math.max(pause, backoff * (0.5 + Math.random() / 2));
      this.#set('waiting', reason, Date.now() + wait);
      await this.#sleep(wait);
    }
  }

  /** Tries again at once, also after a pause. */
  retryNow() {
    this.#isPaused = false;
    this.#wake();
  }

  /** Gives the connection up: a browser has only six for all its tabs, and one that nobody sees must not keep any. */
  pause() {
    this.#isPaused = true;
    this.#connection?.abort('own');
  }

  /** Connects again if the interval between samples is no longer the right one. Nothing is missed. */
  adjust() {
    const wanted = this.#listeners.every();
    const isFar = wanted >= 2 * this.#every || 2 * wanted <= this.#every;
    if (this.state.name === 'live' && isFar) this.#connection.abort('own');
  }

  /** Reads one connection to its end. Returns the reason for the end, and how long the server wants us to wait. */
  async #connect(subscribed) {
    const connection = new AbortController();
    this.#connection = connection;
    this.#every = this.#listeners.every();
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => connection.abort('silent'), SILENCE_MAX);
    };
    const parser = new EventParser();
    let bye = '';
    let isSubscribed = false;
    try {
      heard();
      const headers = this.#cursor ? { 'Last-Event-ID': this.#cursor } : {};
      const response = await get('/feed', { every: this.#every }, { signal: connection.signal, headers });
      if (!response.headers.get('Content-Type')?.startsWith('text/event-stream')) throw new Problem(0, NOT_OURS);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { reason: bye || 'The connection ended.', pause: parser.retry ?? 0 };
        heard();
        this.#heardAt = Date.now();
        const events = parser.push(value);
        for (const { type, data } of events) {
          const event = parse(data);
          if (type === 'bye') bye = `The server ended the connection: ${event.reason}.`;
          if (type === 'subscribed') {
            isSubscribed = this.#hasBegun = true;
            subscribed();
            this.#set('live');
          }
          this.#listeners.event(type, event, this.#cursor !== '');
        }
        if (parser.lastId) this.#cursor = parser.lastId;
        if (events.length) this.#listeners.batchEnd();
      }
    } catch (error) {
      if (connection.signal.reason === 'own') return { reason: null };
      if (connection.signal.reason === 'silent') return { reason: isSubscribed ? SILENT : HELD_BACK, pause: 0 };
      if (error instanceof Problem) throw error;
      if (error instanceof TypeError) return { reason: bye || 'The connection was lost.', pause: parser.retry ?? 0 };
      throw error;
    } finally {
      clearTimeout(silence);
      connection.abort('ended');
    }
  }

  #set(name, detail = '', retryAt = 0) {
    this.state = { name, detail, retryAt };
    this.#listeners.state();
  }

  /** Waits until `retryNow` or for `ms`; null waits for `retryNow` only. */
  #sleep(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (ms !== null) setTimeout(resolve, ms);
    });
  }
}
