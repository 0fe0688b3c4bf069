// Server-sent events: the text format, by the rules of the HTML standard (9.2.6, "Interpreting an event stream").
// EventSource knows them too, but it cannot send a token.

/** Turns the pieces of a stream into events. */
export class EventParser {
  /** The id of the last event that had one: the resume point. */
  lastId = '';
  /** The pause before the next connection that the server asked for, in milliseconds. */
  retry = null;

  #rest = '';
  #endedWithCr = false;
  #type = '';
  #data = [];
  #id = '';

  /** Takes the next piece of text and returns the events that it completes: `{type, data}`. */
  push(text) {
    if (text === '') return [];
    // CRLF is one end of a line, also if a piece ends between the two.
    if (this.#endedWithCr && text[0] === '\n') text = text.slice(1);
    this.#endedWithCr = text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === '') this.#dispatch(events);
      else this.#field(line);
    }
    return events;
  }

  #dispatch(events) {
    this.lastId = this.#id;
    if (this.#data.length) events.push({ type: this.#type || 'message', data: this.#data.join('\n') });
    this.#type = '';
    this.#data = [];
  }

  #field(line) {
    const colon = line.indexOf(':');
    if (colon === 0) return; // A comment.
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value[0] === ' ') value = value.slice(1);
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#type = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
  }
}
