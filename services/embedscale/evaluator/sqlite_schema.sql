CREATE TABLE IF NOT EXISTS evaluations (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    request TEXT UNIQUE,
    caller TEXT NOT NULL,
    spec BLOB NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    ended REAL,
    result BLOB,
    failure BLOB,
    attempt INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS evaluations_by_state ON evaluations (state, ordinal);
CREATE TABLE IF NOT EXISTS events (
    ordinal INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    time REAL NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    progress BLOB NOT NULL,
    PRIMARY KEY (ordinal, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    ordinal INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    rows BLOB NOT NULL,
    PRIMARY KEY (ordinal, chunk)
);
