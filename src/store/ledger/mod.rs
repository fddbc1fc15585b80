//! The daemon's database, one SQLite file: tasks, outgoing messages, commands and single values.
//!
//! Owns opening, checking and setting aside, transactions and the table `meta`. [`tasks`] has the
//! queries over tasks; tables of messages and commands are those of whoever opens the ledger. Knows
//! nothing of what the daemon does with any of it.
//!
//! ```text
//!            ┌── absent ──► created whole under another name, then renamed into place
//! open(path) ┼── sound ───► used
//!            └── damaged ─► moved to ledger.db.corrupt-<unix seconds>, a new one created
//! ```
//!
//! One owner, one connection, one thread. A full disk, a read-only or a locked file is an error
//! that goes away with its cause: open again then.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use rustix::fs::{Access, access};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod archive;
mod aside;
mod error;
pub mod tasks;

pub(crate) use archive::Source;
pub use aside::SetAside;
pub use error::LedgerError;
pub use tasks::{Lookup, NewTask, StoredTask, TaskCounts};

/// "latr": tells our files from other SQLite files.
const APPLICATION_ID: i32 = 0x6c61_7472;
/// The version of all tables together and of what they hold. 2: the names of settings, metrics and
/// commands that the daemon remembers, and of messages that wait to be sent, are others than in 1. 3:
/// there is a table more, which a ledger of version 2 gets when it is opened.
const VERSION: u16 = 3;
/// The tables that version 3 has more than version 2.
const NEW_IN_3: &[&str] = &["answer_kind"];
/// Larger files are not checked whole on opening, so that a start takes seconds at most on a
/// memory card. What is wrong in them shows when the page is read.
const CHECKED_BYTES: u64 = 64 << 20;
/// How long another process (a person with `sqlite3`) may hold the file before that is an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// What the name of a ledger that is being made has at its end.
const NEW: &str = ".new";
/// When the ledger was rebuilt after a damaged one, in unix seconds.
const REBUILT_AT: &str = "rebuilt_at";

const META_SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

/// The open database.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// The tables that the caller brings, beside our own.
    schemas: &'static [&'static str],
    connection: Connection,
}

impl Ledger {
    /// Opens the ledger, or creates an empty one, with the tables of `schemas` beside its own. A
    /// damaged one is moved aside, never deleted, and replaced by an empty one: its tasks then come
    /// back from their archive
    /// ([`crate::intake::Spool::restore`]), and commands issued before [`Self::rebuilt_at`]
    /// must be refused, since it is no longer known which of them were done.
    ///
    /// # Errors
    /// [`LedgerError`] if the disk is full or read-only, another process holds the file, or another
    /// version of latrod made it. Nothing was changed then.
    pub fn open(
        path: &Path,
        schemas: &'static [&'static str],
    ) -> Result<(Self, Option<SetAside>), LedgerError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::open_at(path, schemas, since_epoch.as_secs().try_into().unwrap_or(i64::MAX))
    }

    /// [`Self::open`] at a given time in unix seconds, which names what is set aside.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(
        path: &Path,
        schemas: &'static [&'static str],
        unix_s: i64,
    ) -> Result<(Self, Option<SetAside>), LedgerError> {
        // SQLite only says that it cannot open a file in a folder that cannot be written to.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        access(folder.unwrap_or(Path::new(".")), Access::WRITE_OK)
            .map_err(|errno| LedgerError::file("open", path, errno.into()))?;
        if !exists(path)? {
            // Part of a ledger that was being set aside when the power failed may still be here.
            let rebuilt = aside::was_set_aside(path)?;
            Self::make(path, schemas, rebuilt.then_some(unix_s))?;
            let aside = aside::move_aside(path, unix_s, "its main file is missing")?;
            return Self::install(path, schemas, aside);
        }
        match Self::open_sound(path, schemas) {
            Ok(ledger) => Ok((ledger, None)),
            Err(error) if error.is_corrupt() => Self::replace_file(path, schemas, unix_s, &error),
            Err(error) => Err(error),
        }
    }

    /// Moves this ledger aside and creates an empty one, after a call failed with an error that
    /// [`LedgerError::is_corrupt`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn replace(
        self,
        unix_s: i64,
        reason: &LedgerError,
    ) -> Result<(Self, Option<SetAside>), LedgerError> {
        let (path, schemas) = (self.path.clone(), self.schemas);
        drop(self);
        Self::replace_file(&path, schemas, unix_s, reason)
    }

    /// The connection, for the modules that own the other tables.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where the ledger lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does all of `work` or nothing of it: durable once this returns `Ok`, undone after an error.
    /// Not to be nested.
    ///
    /// # Errors
    /// What `work` returns, or the [`LedgerError`] of beginning and committing.
    pub fn transaction<T, E: From<LedgerError>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let begin = || Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
        let transaction = begin().map_err(LedgerError::from)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(LedgerError::from)?;
        Ok(value)
    }

    /// A single value, read from JSON; `None` if it was never set.
    ///
    /// # Errors
    /// [`LedgerError`]; one that [`LedgerError::is_corrupt`] if the value is none of `T`.
    pub fn get_meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, LedgerError> {
        let mut query = self.connection.prepare("SELECT value FROM meta WHERE key = ?1")?;
        let text = query.query_row([key], |row| row.get::<_, String>(0)).optional()?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| LedgerError::Damaged { what: format!("the value of {key}") })
    }

    /// Sets a single value, kept as JSON. Within [`Self::transaction`] it is part of that.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_meta<T: Serialize>(&self, key: &str, value: &T) -> Result<(), LedgerError> {
        let text = serde_json::to_string(value)
            .map_err(|_| LedgerError::Unstorable { key: key.to_owned() })?;
        self.connection
            .prepare(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?
            .execute([key, &text])?;
        Ok(())
    }

    /// When a damaged ledger was replaced by this one, in unix seconds.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn rebuilt_at(&self) -> Result<Option<i64>, LedgerError> {
        self.get_meta(REBUILT_AT)
    }

    pub(crate) fn set_rebuilt_at(&self, unix_s: i64) -> Result<(), LedgerError> {
        self.set_meta(REBUILT_AT, &unix_s)
    }

    /// Returns the space of deleted rows to the file system where that is worth the writing. Call it
    /// from time to time.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn tidy(&self) -> Result<(), LedgerError> {
        let number = |pragma: &str| {
            self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        };
        let (free, all) = (number("freelist_count")?, number("page_count")?);
        if free > 256 && free > all / 4 {
            // Yields a row for each page, so it must be stepped through.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum(4096)")?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    fn replace_file(
        path: &Path,
        schemas: &'static [&'static str],
        unix_s: i64,
        reason: &LedgerError,
    ) -> Result<(Self, Option<SetAside>), LedgerError> {
        // Made first: where the disk is full, the damaged one stays to be noticed again.
        Self::make(path, schemas, Some(unix_s))?;
        let aside = aside::move_aside(path, unix_s, &reason.to_string())?;
        Self::install(path, schemas, aside)
    }

    /// Creates an empty ledger, whole, under another name.
    fn make(
        path: &Path,
        schemas: &'static [&'static str],
        rebuilt_at: Option<i64>,
    ) -> Result<(), LedgerError> {
        let file_error = |source| LedgerError::file("create", path, source);
        let new = aside::beside(path, NEW);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            aside::remove_if_there(&aside::beside(&new, suffix)).map_err(file_error)?;
        }
        create_private(&new).map_err(file_error)?;
        let made = Self { path: new.clone(), schemas, connection: connect(&new)? };
        made.connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        made.connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        made.transaction(|connection| {
            connection.execute_batch(&schema(schemas))?;
            connection.pragma_update(None, "user_version", stamp(VERSION))?;
            rebuilt_at.map_or(Ok(()), |unix_s| made.set_rebuilt_at(unix_s))
        })?;
        made.connection.close().map_err(|(_, error)| error)?;
        File::open(&new).and_then(|file| file.sync_all()).map_err(file_error)
    }

    /// Moves what [`Self::make`] created into place.
    fn install(
        path: &Path,
        schemas: &'static [&'static str],
        aside: Option<SetAside>,
    ) -> Result<(Self, Option<SetAside>), LedgerError> {
        fs::rename(aside::beside(path, NEW), path)
            .and_then(|()| aside::sync_folder_of(path))
            .map_err(|source| LedgerError::file("create", path, source))?;
        Ok((Self::open_sound(path, schemas)?, aside))
    }

    /// Opens an existing file, which must be sound and of our version.
    fn open_sound(path: &Path, schemas: &'static [&'static str]) -> Result<Self, LedgerError> {
        let bytes = fs::metadata(path).map_err(|e| LedgerError::file("open", path, e))?.len();
        let damaged = |what: &str| Err(LedgerError::Damaged { what: what.to_owned() });
        if bytes == 0 {
            return damaged("the file is empty");
        }
        let connection = connect(path)?;
        let number =
            |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        if number("application_id")? != APPLICATION_ID {
            return damaged("it was not made by latrod");
        }
        let stamped = number("user_version")?;
        let version = (stamped & 0xffff) as u16;
        if stamped != stamp(version) || version == 0 {
            return damaged("its version makes no sense");
        }
        let grows = version == 2;
        if version != VERSION && !grows {
            let (path, known) = (path.to_owned(), VERSION);
            return Err(if version > VERSION {
                LedgerError::Newer { path, version, known }
            } else {
                LedgerError::Older { path, version, known }
            });
        }
        if bytes <= CHECKED_BYTES {
            let verdict: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return damaged("its pages contradict each other");
            }
        }
        // A flipped bit in a table's name would otherwise pass for a missing table.
        let mut expected = expected_tables(schemas)?;
        if grows {
            expected.retain(|(_, name, _)| !NEW_IN_3.contains(&name.as_str()));
        }
        if tables(&connection)? != expected {
            return damaged("its tables are not those that latrod makes");
        }
        if grows {
            let begin = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
            begin.execute_batch(&schema(schemas))?;
            begin.pragma_update(None, "user_version", stamp(VERSION))?;
            begin.commit()?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        Ok(Self { path: path.to_owned(), schemas, connection })
    }
}

/// Both halves say the same, so that a flipped bit does not pass for another version.
fn stamp(version: u16) -> i32 {
    i32::from(version) << 16 | i32::from(version)
}

fn schema(schemas: &[&str]) -> String {
    [&[META_SCHEMA, tasks::SCHEMA], schemas].concat().join("\n")
}

fn connect(path: &Path) -> Result<Connection, LedgerError> {
    let connect = || {
        // Without SQLITE_OPEN_URI a path is a path, whatever it begins with.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        for (pragma, value) in [
            ("synchronous", "FULL"),
            ("cell_size_check", "ON"),
            ("foreign_keys", "ON"),
            ("temp_store", "MEMORY"),
            // Pages of 4 KiB: 2 MiB of memory, and a write-ahead log of about 4 MiB.
            ("cache_size", "-2048"),
            ("wal_autocheckpoint", "1000"),
            ("journal_size_limit", "4194304"),
        ] {
            connection.pragma_update(None, pragma, value)?;
        }
        Ok(connection)
    };
    connect().map_err(|source| LedgerError::Open { path: path.to_owned(), source })
}

/// Kind, name and text of everything in the database, in the order of names.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    connection
        .prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

fn expected_tables(schemas: &[&str]) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(&schema(schemas))?;
    tables(&model)
}

fn exists(path: &Path) -> Result<bool, LedgerError> {
    path.try_exists().map_err(|source| LedgerError::file("open", path, source))
}

/// Creates an empty file that only its owner can read: it will hold the tasks' text.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests;
