-- All times are milliseconds since 1970 (UTC).

CREATE TABLE device (
    id INTEGER PRIMARY KEY,
    -- NULL: retired; the row goes with the last of its data.
    name TEXT UNIQUE
) STRICT;

CREATE TABLE name (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Where each resolution begins: what is older was, or is about to be, purged from its table.
CREATE TABLE horizon (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    raw INTEGER NOT NULL,
    fine INTEGER NOT NULL,
    coarse INTEGER NOT NULL,
    event INTEGER NOT NULL
) STRICT;

-- All numbers of one message, of 5 minutes and of an hour; bucket.rs has the format.
CREATE TABLE raw (
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    numbers BLOB NOT NULL,
    PRIMARY KEY (device, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE fine (
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    numbers BLOB NOT NULL,
    PRIMARY KEY (device, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE coarse (
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    numbers BLOB NOT NULL,
    PRIMARY KEY (device, at)
) STRICT, WITHOUT ROWID;

-- The hours whose buckets do not yet say what `raw` says.
CREATE TABLE stale (
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (device, at)
) STRICT, WITHOUT ROWID;

-- `at` is the start of a day.
CREATE TABLE spent (
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    ms INTEGER NOT NULL,
    PRIMARY KEY (device, at, state, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    device INTEGER NOT NULL,
    at INTEGER NOT NULL,
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    severity TEXT NOT NULL,
    sentence TEXT NOT NULL,
    detail TEXT NOT NULL,
    UNIQUE (device, id)
) STRICT;
-- With the event's name, so that those of other names are passed over within the index.
CREATE INDEX event_by_time ON event (at, event);
CREATE INDEX event_by_device ON event (device, at, event);

CREATE TABLE deed (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
CREATE INDEX deed_by_time ON deed (at);

-- Alarms that an operator has seen: they are quiet until they come anew.
CREATE TABLE acknowledged (
    device TEXT NOT NULL,
    alarm TEXT NOT NULL,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    PRIMARY KEY (device, alarm)
) STRICT, WITHOUT ROWID;

-- Roll-outs, each as JSON that only the dashboard reads.
CREATE TABLE rollout (
    id INTEGER PRIMARY KEY,
    json TEXT NOT NULL
) STRICT;
