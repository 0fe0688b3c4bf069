// What the page says about its connection, and when it lets it go.

import { byId, setText } from './dom.js';
import { now } from './server.js';
import { recent } from './text.js';
import { askForToken } from './token.js';

const WORDS = { connecting: 'Connecting…', live: 'Connected', waiting: 'Disconnected', token: 'No token' };
const KEEPS_TRYING = 'These are the values of that time. The page keeps trying, and catches up by itself.';
const NEVER_BEGUN = 'No live values have come since the page was opened. The page keeps trying.';
/** What the person can do, after the page has tried for so long, in milliseconds. */
const HELP_AFTER = 30_000;
const HELP = 'If this lasts, check the network of this device, or tell the person who runs the server.';
const NO_NETWORK = 'This device has no network.';
/** How long good news stays, in milliseconds. Everything else stays until the person closes it. */
const GOOD_NEWS = 6000;
/** A tab that is hidden for longer gives its connection up, in milliseconds. It resumes when it is seen again. */
const HIDDEN_MAX = 10_000;

/** The word in the header, and the banner below. */
export class ConnectionView {
  #feed;
  #note = '';
  /**
   * The lost connection, until there is one again: `{reason, at, title}`, with the time at which the page noticed it.
   */
  #loss = null;
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
    if (name === 'waiting') this.#lose(detail);
    if (name === 'live' && this.#loss) this.#resume();
    if (name === 'live' || name === 'token') this.#loss = null;
    // Each attempt changes nothing that a screen reader says.
    const state = this.#loss ? 'waiting' : name;
    byId('connection').dataset.state = document.body.dataset.feed = state;
    setText(byId('connection-words'), WORDS[state]);
    byId('banner').hidden = !this.#loss && !this.#note;
    byId('banner').dataset.state = state;
    setText(byId('banner-title'), this.#loss?.title ?? '');
    setText(byId('banner-words'), this.#loss ? (this.#feed.hasBegun ? KEEPS_TRYING : NEVER_BEGUN) : this.#note);
    setText(byId('banner-reason'), this.#loss?.reason ?? '');
    byId('connect-now').hidden = !this.#loss;
    byId('banner-close').hidden = Boolean(this.#loss);
    if (name === 'token') askForToken(detail);
    this.tick();
  }

  #lose(reason) {
    const since = recent(this.#feed.knownUntil, now());
    const title = this.#feed.hasBegun ? `Disconnected since ${since}` : `Not connected since ${since}`;
    this.#loss = { at: now(), title, ...this.#loss, reason };
  }

  #resume() {
    const text = 'Connected again. No sample was missed.';
    this.#note ||= text;
    setTimeout(() => this.#note === text && this.note(''), GOOD_NEWS);
  }

  /** Counts down to the next attempt. A screen reader does not read it: it would never stop. */
  tick() {
    const { name, retryAt } = this.#feed.state;
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    setText(byId('banner-countdown'), !this.#loss ? '' : name === 'waiting' ? `Next attempt in ${seconds} s.` : 'Trying now…');
    const isLong = this.#loss && now() - this.#loss.at >= HELP_AFTER;
    setText(byId('banner-help'), isLong ? (navigator.onLine ? HELP : `${NO_NETWORK} ${HELP}`) : '');
  }
}
