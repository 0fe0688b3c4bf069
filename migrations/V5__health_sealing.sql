-- One row: up to when everything is summarised. Nothing is stored before the year 2000.
CREATE TABLE health_sealing (
    sealed_before timestamptz NOT NULL DEFAULT '2000-01-01T00:00:00Z', -- summaries of slices before it are complete
    threshold     timestamptz NOT NULL DEFAULT '2000-01-01T00:00:00Z', -- writers mark what is older
    next_user     bigint      NOT NULL DEFAULT 0, -- of the slices between the two, those of users before this one,
    next_slice    timestamptz NOT NULL DEFAULT '2000-01-01T00:00:00Z', -- and of this one before this slice, are summarised
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row)
);

INSERT INTO health_sealing DEFAULT VALUES;
