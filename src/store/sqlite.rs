//! What SQLite's errors mean.

use rusqlite::{ErrorCode, ffi};

/// Whether a database's content is damaged: no retry will help.
#[must_use]
pub fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == ffi::SQLITE_IOERR_SHORT_READ
        }
        // A column holds what was never put there.
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..)
        | E::InvalidColumnType(..) => true,
        _ => false,
    }
}

/// What a person can do about an error.
#[must_use]
pub fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space there",
        Some(ErrorCode::ReadOnly) => "make its folder writable",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "end the other program that has it open"
        }
        Some(ErrorCode::CannotOpen) => "check the path and its permissions",
        _ if is_corrupt(error) => "it must be set aside and created again",
        _ => "check the disk",
    }
}
