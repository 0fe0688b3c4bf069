-- What the feed resumes from: one row a writing transaction, with the span of `health_metrics.id` it wrote.
-- Identity values become visible out of order; transaction ids below a snapshot's xmin do not.
CREATE TABLE health_commits (
    xid          xid8        PRIMARY KEY DEFAULT pg_current_xact_id(),
    first_id     bigint      NOT NULL, -- nothing this transaction wrote has a lower id
    last_id      bigint      NOT NULL, -- or a higher one
    server       bigint      NOT NULL, -- the process that wrote it, and has published it by itself
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX health_commits_committed_at ON health_commits (committed_at);

-- One row: which stream of changes this is, and how far back it still reaches.
CREATE TABLE health_feed (
    stream      uuid NOT NULL DEFAULT gen_random_uuid(),
    pruned_below xid8 NOT NULL DEFAULT pg_current_xact_id(),
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);

INSERT INTO health_feed DEFAULT VALUES;
