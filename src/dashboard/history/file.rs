//! Opens the file, creates it, checks it, and moves a damaged one out of the way.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::HistoryError;

/// "latD": tells our files from other SQLite files.
const APPLICATION_ID: i32 = 0x6c61_7444;
const VERSION: i32 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// Larger files are not checked whole on opening. What is wrong in them shows when the page is read.
const CHECKED_BYTES: u64 = 64 << 20;
/// How long another process (a person with `sqlite3`) may hold the file before that is an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(PathBuf),
    /// Kept in memory as long as a connection is open, for all connections of this process that
    /// know its name.
    Memory(String),
}

impl Place {
    pub(super) fn in_memory() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::Memory(format!("file:/latrod-history-{number}?vfs=memdb"))
    }

    fn as_path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(name) => Path::new(name),
        }
    }

    fn connect(&self, access: OpenFlags) -> Result<Connection, HistoryError> {
        // Without SQLITE_OPEN_URI a path is a path, whatever it begins with.
        let uri = match self {
            Self::File(_) => OpenFlags::empty(),
            Self::Memory(_) => OpenFlags::SQLITE_OPEN_URI,
        };
        let connect = || {
            let flags = access | uri | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(self.as_path(), flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            connection.pragma_update(None, "cell_size_check", "ON")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            Ok(connection)
        };
        connect().map_err(|source| HistoryError::Open { path: self.as_path().to_owned(), source })
    }

    /// A connection that only reads.
    pub(super) fn read(&self) -> Result<Connection, HistoryError> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.pragma_update(None, "cache_size", "-8192")?;
        Ok(connection)
    }

    /// The connection that writes. Where there are no tables, it makes them.
    pub(super) fn write(&self) -> Result<Connection, HistoryError> {
        if let Self::File(path) = self {
            create_private(path).map_err(|source| HistoryError::file("create", path, source))?;
        }
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = self.connect(access)?;
        for (pragma, value) in [
            ("synchronous", "FULL"),
            // A message goes to its device's place in the tables, so that in a large fleet every
            // batch touches a page of each device: these pages (of 8 KiB) should fit here, and be
            // copied from the log to the file seldom.
            ("cache_size", "-32768"),
            ("wal_autocheckpoint", "4096"),
            ("journal_size_limit", "33554432"),
        ] {
            connection.pragma_update(None, pragma, value)?;
        }
        if number(&connection, "application_id")? == 0 && tables(&connection)?.is_empty() {
            make(&connection)?;
        }
        self.check(&connection)?;
        if matches!(self, Self::File(_)) {
            connection.pragma_update(None, "journal_mode", "WAL")?;
        }
        Ok(connection)
    }

    fn check(&self, connection: &Connection) -> Result<(), HistoryError> {
        let path = self.as_path().to_owned();
        if number(connection, "application_id")? != APPLICATION_ID {
            return Err(HistoryError::Foreign { path });
        }
        let version = number(connection, "user_version")?;
        if version != VERSION {
            return Err(HistoryError::Version { path, version, known: VERSION });
        }
        let model = Connection::open_in_memory()?;
        model.execute_batch(SCHEMA)?;
        if tables(connection)? != tables(&model)? {
            return Err(HistoryError::Damaged {
                what: "its tables are not those that latrod makes",
            });
        }
        if fs::metadata(&path).is_ok_and(|file| file.len() <= CHECKED_BYTES) {
            let verdict: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(HistoryError::Damaged { what: "its pages contradict each other" });
            }
        }
        Ok(())
    }

    /// Moves the file and what SQLite keeps beside it to `<path>.corrupt-<unix seconds>`. Returns
    /// that path.
    pub(super) fn move_aside(&self) -> Result<PathBuf, HistoryError> {
        let path = self.as_path();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = beside(path, &format!(".corrupt-{}", since_epoch.as_secs()));
        let target = (0..1000)
            .map(|n| if n == 0 { base.clone() } else { beside(&base, &format!(".{n}")) })
            .find(|name| fs::symlink_metadata(name).is_err())
            .unwrap_or(base);
        // The main file first: SQLite discards a log whose main file is missing, while a main file
        // without its log would look sound and lack its newest rows.
        for suffix in ["", "-wal", "-shm"] {
            match fs::rename(beside(path, suffix), beside(&target, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(HistoryError::file("set aside", path, error));
                }
                _ => {}
            }
        }
        Ok(target)
    }
}

fn make(connection: &Connection) -> Result<(), HistoryError> {
    // Rows of up to 2 KB, about 110 numbers, fit into such pages without another one behind them.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // All or nothing: what a kill leaves is a whole history or a file without tables.
    let begin = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    begin.execute_batch(SCHEMA)?;
    begin.execute("INSERT INTO horizon VALUES (0, 0, 0, 0, 0)", [])?;
    begin.pragma_update(None, "application_id", APPLICATION_ID)?;
    begin.pragma_update(None, "user_version", VERSION)?;
    begin.commit()?;
    Ok(())
}

/// Kind, name and text of everything in the database, in the order of names.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    connection
        .prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// The value of a pragma that has one number.
pub(super) fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// Creates an empty file that only its owner can read, if there is none.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The path with something added to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
