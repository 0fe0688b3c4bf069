-- API tokens. A row stays after its token was revoked: from the first token on, servers refuse requests without one.
CREATE TABLE health_tokens (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL,
    secret_hash  bytea       NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32), -- SHA-256 of the secret's text
    scopes       text[]      NOT NULL, -- ingest, read, erase
    users        bigint[],             -- the users that the token is limited to; NULL: all users
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,          -- written at most once a minute
    revoked_at   timestamptz
);
-- The name of a revoked token can be given again.
CREATE UNIQUE INDEX health_tokens_name ON health_tokens (name) WHERE revoked_at IS NULL;
