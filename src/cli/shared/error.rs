//! The error of a command and its exit code.

/// What a command can fail with. The message is one sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Wrong arguments or input files: exit code 64 (`EX_USAGE` of sysexits.h).
    #[error("{0}")]
    Usage(String),
    /// A configuration that cannot be used: exit code 78 (`EX_CONFIG`).
    #[error("{0}")]
    Config(String),
    /// The work itself failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Another process holds what this one needs: exit code 75 (`EX_TEMPFAIL`).
    #[error("{0}")]
    TryLater(String),
}

impl CliError {
    /// The exit code that the design promises for this kind of error.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Config(_) => 78,
            Self::Failed(_) => 1,
            Self::TryLater(_) => 75,
        }
    }
}
