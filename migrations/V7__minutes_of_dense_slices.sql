-- Slices of many samples are kept in minutes as well, so that a range that cuts one is answered without reading them all.
-- Nothing has to be changed for it: a dense slice that was summarised before is read sample by sample, until it changes.
COMMENT ON COLUMN health_rollups.minutes IS '1 (only of slices of many samples), 15, 60 or 1440, counted in UTC';
