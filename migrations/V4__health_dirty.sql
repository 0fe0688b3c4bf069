-- Slices whose stored summaries are not, or may not be, what the samples say any more. Writers leave these marks in the
-- transaction that changes a sample older than health_sealing.threshold; the roller takes them away.
CREATE TABLE health_dirty (
    user_id bigint      NOT NULL,
    slice   timestamptz NOT NULL, -- the first instant of a quarter of an hour
    PRIMARY KEY (user_id, slice)
) WITH (
    -- Marks come and go: a share of the rows that are there at the moment says nothing.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 5000
);
