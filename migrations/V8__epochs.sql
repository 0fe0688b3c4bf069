-- Standard names for three columns. "Epoch" is the term for a generation of dirty slices; "writer" says that the number
-- identifies the connection that wrote a commit, not the server process. A rename changes the catalog only, not a row.
ALTER TABLE health_dirty RENAME COLUMN generation TO epoch;
ALTER TABLE health_sealing RENAME COLUMN generation TO epoch;
ALTER TABLE health_sealing RENAME COLUMN generation_since TO epoch_since;
ALTER TABLE health_commits RENAME COLUMN server TO writer;

COMMENT ON COLUMN health_dirty.epoch IS 'the epoch in which a writer added this dirty slice; the roller removes rows of past epochs only';
COMMENT ON COLUMN health_sealing.epoch IS 'the current epoch: writers add dirty slices under this number';
COMMENT ON COLUMN health_sealing.epoch_since IS 'when the current epoch began';
COMMENT ON COLUMN health_commits.writer IS 'the writer id of the connection that wrote this commit; 0 if this row stands for several commits';
