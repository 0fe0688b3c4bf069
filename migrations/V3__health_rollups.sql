-- What a quarter of an hour, an hour and a day of one source boil down to; nothing in it that the samples do not say.
-- As in health_metrics everything rides along in the key's leaves: a year is then a few pages, not a page a day.
CREATE TABLE health_rollups (
    user_id   bigint           NOT NULL,
    minutes   smallint         NOT NULL, -- 15, 60 or 1440, counted in UTC
    start     timestamptz      NOT NULL,
    source    text COLLATE "C" NOT NULL,
    samples   bigint           NOT NULL,
    summary   bytea            NOT NULL, -- sums, extremes, weights and what of it counts; its first byte is a version
    histogram bytea            NOT NULL, -- heart-rate readings by whole beats per minute
    PRIMARY KEY (user_id, minutes, start, source) INCLUDE (samples, summary, histogram)
);

-- Index-only reads need a fresh visibility map.
ALTER TABLE health_rollups SET (
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05
);
