// Numbers, ages and times as text, always with their unit or zone.

/** The zone of the viewer; UTC if the system has none, for which browsers give a name that they do not accept. */
export const viewerZone = (() => {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  try {
    return new Intl.DateTimeFormat('en-GB', { timeZone }).resolvedOptions().timeZone;
  } catch {
    return 'UTC';
  }
})();

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Stands for a value that there is not. */
export const NONE = '–';

/** The alerts in words, because not everybody tells their colours apart. */
export const ALERTS = { high: '▲ high', low: '▼ low' };

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en-GB', { notation: 'compact' });
const tenth = new Intl.NumberFormat('en-GB', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** Returns a whole number with separators between thousands. */
export const count = (value) => (value == null ? NONE : whole.format(value));

/** Returns a whole number in at most six characters, such as 99,999 or 100K. */
export const shortCount = (value) => (value < 100_000 ? count(value) : short.format(value));

/** Returns a number with one decimal. */
export const decimal = (value) => (value == null ? NONE : tenth.format(value));

/** Returns calories: a tenth is nothing beside a thousand. */
export const energy = (value) => (value >= 1000 ? count(value) : decimal(value));

/** Returns "1 user" or "2 users". */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

/** Return what a sample adds, such as "+12 steps", and nothing if it adds none: that says nothing about the person. */
export const addedSteps = (value) => (value ? `+${counted(value, 'step')}` : '');
export const addedEnergy = (value) => (value >= 0.05 ? `+${energy(value)} kcal` : '');

/** Returns an age such as "8 s ago". A device whose clock is ahead has a negative age. */
export function age(ms) {
  const seconds = Math.round(Math.abs(ms) / 1000);
  const [value, unit] =
    seconds < 120 ? [seconds, 's']
    : seconds < 7200 ? [Math.floor(seconds / 60), 'min']
    : seconds < 172_800 ? [Math.floor(seconds / 3600), 'h']
    : [Math.floor(seconds / 86_400), 'd'];
  return ms < -2000 ? `${count(value)} ${unit} ahead` : `${count(value)} ${unit} ago`;
}

/** Returns a length of time such as "1 h". */
export function duration(ms) {
  if (ms === DAY) return '24 h';
  for (const [size, unit] of [[DAY, 'd'], [HOUR, 'h'], [MINUTE, 'min']]) {
    if (ms >= size) return `${decimal(ms / size).replace('.0', '')} ${unit}`;
  }
  return `${count(ms / 1000)} s`;
}

const formats = new Map();

/**
 * Returns the format of times in a zone; making one is slow. Throws RangeError if the browser does not know the zone.
 */
function format(zone, style) {
  const key = `${zone} ${style}`;
  if (!formats.has(key)) {
    const day = { day: 'numeric', month: 'short' };
    const time = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
    const options = {
      time,
      day,
      clock: { ...time, second: '2-digit' },
      second: { ...day, ...time, second: '2-digit' },
      date: { ...day, year: 'numeric' },
      full: { ...day, year: 'numeric', ...time, second: '2-digit' },
      offset: { timeZoneName: 'longOffset' },
    }[style];
    formats.set(key, new Intl.DateTimeFormat('en-GB', { ...options, timeZone: zone }));
  }
  return formats.get(key);
}

/** Returns "18:05". */
export const clock = (ms, zone = viewerZone) => format(zone, 'time').format(ms);
/** Returns "2 Mar". */
export const date = (ms, zone = viewerZone) => format(zone, 'day').format(ms);
/** Returns "18:05:09" of today in the viewer's zone, and "2 Mar, 18:05:09" of any other day. */
export const recent = (ms, now) => (date(ms) === date(now) ? format(viewerZone, 'clock').format(ms) : moment(ms));
/** Returns "2 Mar, 18:05:09". */
export const moment = (ms, zone = viewerZone) => format(zone, 'second').format(ms);
/** Returns "2 Mar 2025, 18:05:09". */
export const fullTime = (ms, zone = viewerZone) => format(zone, 'full').format(ms);

/** Returns a range, such as "2 Mar 2025, 18:05:09 to 18:20:09". */
export const fullRange = (start, end, zone) =>
  `${fullTime(start, zone)} to ${format(zone, 'date').format(start) === format(zone, 'date').format(end) ? format(zone, 'clock').format(end) : fullTime(end, zone)}`;

/** Returns a zone and how far its clocks are ahead of UTC at a time, such as "Europe/Berlin (UTC+1)". */
export function zoneName(zone, ms) {
  const minutes = Math.round(zoneOffset(ms, zone) / MINUTE);
  if (zone === 'UTC') return zone;
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  const ahead = minutes ? `${minutes < 0 ? '−' : '+'}${hours}${rest ? `:${String(rest).padStart(2, '0')}` : ''}` : '';
  return `${zone} (UTC${ahead})`;
}

/** Returns how far the clocks of a zone are ahead of UTC, in milliseconds. */
export function zoneOffset(ms, zone) {
  const name = format(zone, 'offset').formatToParts(ms).find((part) => part.type === 'timeZoneName').value;
  const [, sign, hours, minutes, seconds = 0] = /([+-])(\d\d):(\d\d)(?::(\d\d))?/.exec(name) ?? [];
  return sign ? Number(`${sign}1`) * ((hours * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000 : 0;
}

/**
 * Returns when the clocks of a zone show a local time, which is given as if it were UTC. Of a time that occurs twice,
 * it is the first or the second; one that is left out becomes a time close to it. The server reports the range that it
 * used.
 */
export function instant(local, zone) {
  return local - zoneOffset(local - zoneOffset(local, zone), zone);
}

/** Returns the value of a datetime-local field for an instant. */
export const toField = (ms, zone) => new Date(ms + zoneOffset(ms, zone)).toISOString().slice(0, 19);

/** Returns the instant of a datetime-local field, or NaN: such a field may have a year that JavaScript has not. */
export function fromField(text, zone) {
  const local = Date.parse(`${text}Z`);
  return Number.isNaN(local) ? NaN : instant(local, zone);
}

/** Returns an instant in RFC 3339. */
export const rfc3339 = (ms) => new Date(ms).toISOString();
