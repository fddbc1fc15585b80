//! Arguments, logging and exit codes; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    latrod::cli::main()
}
