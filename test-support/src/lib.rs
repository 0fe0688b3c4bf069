//! A throw-away PostgreSQL cluster a test process, one database a test.
