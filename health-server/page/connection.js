// What the page says about its connection, and when it lets it go.

import { byId, setText } from './dom.js';
import { askForToken } from './token.js';

const WORDS = { connecting: 'Connecting…', live: 'Connected', waiting: 'Disconnected', token: 'No token' };
const RESUMED = 'Connected again. No sample was missed.';
/** How long good news stays, in milliseconds. Everything else stays until the person closes it. */
const GOOD_NEWS = 6000;
/** A tab that is hidden for longer gives its connection up, in milliseconds. It resumes when it is seen again. */
const HIDDEN_MAX = 10_000;

/** The word in the header, and the banner below. */
export class ConnectionView {
  #feed;
  #note = '';
  /** Why the connection was lost, until there is one again. */
  #loss = '';
  #hiding = 0;

  /** Watches the tab and the network for a feed. */
  watch(feed) {
    this.#feed = feed;
    byId('banner-close').addEventListener('click', () => this.note(''));
    byId('connect-now').addEventListener('click', () => feed.retryNow());
    addEventListener('online', () => feed.retryNow());
    addEventListener('pagehide', () => feed.pause());
    addEventListener('pageshow', (event) => event.persisted && feed.retryNow());
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.#hiding);
      if (document.hidden) this.#hiding = setTimeout(() => feed.pause(), HIDDEN_MAX);
      else if (feed.state.name !== 'live') feed.retryNow();
    });
  }

  /** Says something about the past of the feed. */
  note(text) {
    this.#note = text;
    this.show();
  }

  /** Shows the state of the feed. */
  show() {
    const { name, detail } = this.#feed.state;
    if (name === 'waiting') this.#loss = detail;
    if (name === 'live' && this.#loss) {
      this.#note ||= RESUMED;
      setTimeout(() => this.#note === RESUMED && this.note(''), GOOD_NEWS);
    }
    if (name === 'live' || name === 'token') this.#loss = '';
    // Each attempt changes nothing that a screen reader says.
    const state = this.#loss ? 'waiting' : name;
    byId('connection').dataset.state = document.body.dataset.feed = state;
    setText(byId('connection-words'), WORDS[state]);
    const text = this.#loss || this.#note;
    byId('banner').hidden = !text;
    setText(byId('banner-words'), text);
    byId('connect-now').hidden = !this.#loss;
    byId('banner-close').hidden = Boolean(this.#loss);
    if (name === 'token') askForToken(detail);
    this.tick();
  }

  /** Counts down to the next attempt. A screen reader does not read it: it would never stop. */
  tick() {
    const { name, retryAt } = this.#feed.state;
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    setText(byId('banner-countdown'), name === 'waiting' ? `Next attempt in ${seconds} s.` : this.#loss && 'Trying now…');
  }
}
