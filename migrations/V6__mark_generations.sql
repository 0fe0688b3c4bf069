-- Marks come in generations, and the roller takes only those of generations that are over: whatever was written under one of
-- them is committed by then. So a writer marks a slice once a generation, however often it changes it, and a mark is never
-- locked or rewritten. The same slice may be marked by several writers.
ALTER TABLE health_dirty DROP CONSTRAINT health_dirty_pkey;
ALTER TABLE health_dirty ADD COLUMN generation bigint NOT NULL DEFAULT 0;
ALTER TABLE health_dirty ALTER COLUMN generation DROP DEFAULT;
CREATE INDEX health_dirty_slice ON health_dirty (user_id, slice);

ALTER TABLE health_sealing
    ADD COLUMN generation       bigint      NOT NULL DEFAULT 1, -- of the marks that are being left now
    ADD COLUMN generation_since timestamptz NOT NULL DEFAULT clock_timestamp();
