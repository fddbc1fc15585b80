-- A file of the archive (tasks/<name>), from which a lost ledger is rebuilt.
CREATE TABLE IF NOT EXISTS archive (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    tasks_left INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS archive_empty ON archive (name) WHERE tasks_left <= 0;

CREATE TABLE IF NOT EXISTS tasks (
    -- AUTOINCREMENT: a number is never given twice, even after its task was forgotten.
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    -- The same for all spellings of a question, so that all of them stay on one side.
    question_key INTEGER NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    text_bytes INTEGER NOT NULL,
    held_out INTEGER NOT NULL,
    set_aside INTEGER NOT NULL DEFAULT 0,
    archive INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS tasks_by_side ON tasks (held_out, set_aside, sequence);
CREATE INDEX IF NOT EXISTS tasks_by_archive ON tasks (archive);
CREATE INDEX IF NOT EXISTS tasks_by_question ON tasks (question_key);

-- How answers are judged, of the tasks that say it themselves.
CREATE TABLE IF NOT EXISTS answer_kind (
    task INTEGER PRIMARY KEY REFERENCES tasks (sequence) ON DELETE CASCADE,
    kind TEXT NOT NULL
);

-- Counting a hundred thousand rows for every state message would cost more than all else at rest.
CREATE TABLE IF NOT EXISTS tally (
    held_out INTEGER NOT NULL,
    set_aside INTEGER NOT NULL,
    count INTEGER NOT NULL,
    text_bytes INTEGER NOT NULL,
    PRIMARY KEY (held_out, set_aside)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS tasks_added AFTER INSERT ON tasks BEGIN
    INSERT INTO tally VALUES (new.held_out, new.set_aside, 1, new.text_bytes)
        ON CONFLICT DO UPDATE SET count = count + 1, text_bytes = text_bytes + excluded.text_bytes;
    UPDATE archive SET tasks_left = tasks_left + 1 WHERE id = new.archive;
END;
CREATE TRIGGER IF NOT EXISTS tasks_removed AFTER DELETE ON tasks BEGIN
    UPDATE tally SET count = count - 1, text_bytes = text_bytes - old.text_bytes
        WHERE held_out = old.held_out AND set_aside = old.set_aside;
    UPDATE archive SET tasks_left = tasks_left - 1 WHERE id = old.archive;
END;
CREATE TRIGGER IF NOT EXISTS tasks_rearchived AFTER UPDATE OF archive ON tasks BEGIN
    UPDATE archive SET tasks_left = tasks_left - 1 WHERE id = old.archive;
    UPDATE archive SET tasks_left = tasks_left + 1 WHERE id = new.archive;
END;
CREATE TRIGGER IF NOT EXISTS tasks_moved AFTER UPDATE OF set_aside ON tasks BEGIN
    UPDATE tally SET count = count - 1, text_bytes = text_bytes - old.text_bytes
        WHERE held_out = old.held_out AND set_aside = old.set_aside;
    INSERT INTO tally VALUES (new.held_out, new.set_aside, 1, new.text_bytes)
        ON CONFLICT DO UPDATE SET count = count + 1, text_bytes = text_bytes + excluded.text_bytes;
END;

-- Task files of the spool that were read but may still lie there: because of a kill between reading
-- and removing, or for good (kept = 1) where they cannot be removed.
CREATE TABLE IF NOT EXISTS source (
    name BLOB PRIMARY KEY,
    -- Device, inode, size, and times of the last change, as text.
    identity TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    kept INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
