"""What JSON Schema cannot say of a valid request, for Schemathesis.

A test of valid data is only one if the data are valid. These strategies and hooks make them so where the description alone
does not: a limit in bytes, the clock, and the order of two parameters. Invalid data are left as they are.
"""

from datetime import datetime, timedelta, timezone

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

FIRST = datetime(2000, 1, 1)
NEED_A_USER = ["/ingest/health-auto-export", "/ingest/health-connect"]


def times(last):
    """Times that a sample may have, with any offset."""
    moments = st.datetimes(FIRST + timedelta(days=2), last)
    offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    return st.builds(lambda moment, offset: moment.replace(tzinfo=offset).isoformat(), moments, offsets)


def cut(text):
    """Cuts a text to 64 bytes, at a character."""
    return text.encode()[:64].decode(errors="ignore")


sources = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=64).map(cut)
# Without timestamps, so that any precision is right.
points = st.builds(
    "{},source={},user_id={} heart_rate={},steps={}i".format,
    st.sampled_from(["health", "a\\ b"]),
    st.sampled_from(["watch", "esp\\,32", "é"]),
    st.integers(1, 2**63 - 1),
    st.floats(20, 250),
    st.integers(0, 100_000),
)
lines = st.builds(
    '{{"user_id":{},"timestamp":"2025-03-02T18:00:00Z","steps":{}}}\n'.format, st.integers(1, 2**63 - 1), st.integers(0, 100_000)
)

schemathesis.openapi.format("date-time", times(datetime.now() - timedelta(days=2)))
schemathesis.openapi.format("source-name", sources)
schemathesis.openapi.format("iana-time-zone", st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]))
schemathesis.openapi.media_type("text/plain", st.lists(points).map(lambda body: "\n".join(body).encode()))
schemathesis.openapi.media_type("application/x-ndjson", st.lists(lines, min_size=1).map(lambda body: "".join(body).encode()))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes the valid data of a case valid as a whole."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if case.operation.path in NEED_A_USER:
        # Or a token that is limited to one user.
        case.query = {"user_id": 101, **(case.query or {})}
    order_range(case.query)
    for record in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(record, dict) and "user_id" in record:
            order_interval(record)
            write_integers(record)


def order_range(query):
    """A range begins before it ends, and its series has a bounded number of buckets."""
    if not query or "start" not in query or "end" not in query:
        return
    start, end = sorted(datetime.fromisoformat(query[name]) for name in ("start", "end"))
    if "bucket" in query:
        end = min(end, start + timedelta(days=1))
    if start == end:
        end += timedelta(seconds=1)
    query["start"], query["end"] = start.isoformat(), end.isoformat()


def order_interval(record):
    """A time is one that a sample may have, and an interval begins before it ends and has at most 25 hours."""
    now = datetime.now(timezone.utc)
    if not isinstance(record.get("timestamp"), str):
        return
    start = min(datetime.fromisoformat(record["timestamp"]), now)
    record["timestamp"] = start.isoformat()
    if isinstance(record.get("end"), str):
        record["end"] = min(start + timedelta(hours=25), now + timedelta(seconds=1)).isoformat()


def write_integers(record):
    """To JSON Schema 3.0 is an integer, too. The server demands that an integer is written as one."""
    for name in ("user_id", "steps"):
        if isinstance(record.get(name), float):
            record[name] = int(record[name])
