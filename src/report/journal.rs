//! Logging: the journal under systemd, the standard error elsewhere.
//!
//! Whatever is logged with key-values of the `log` crate, for example
//!
//! ```
//! log::info!(event = "promoted", adapter = "00000007-1c3a5f90", step = 200; "promoted: +4.1 points");
//! ```
//!
//! becomes fields of its own in the journal, in capitals (`journalctl -t latrod EVENT=promoted`), and
//! ` event=promoted adapter=… step=200` after the text elsewhere. Keys are `event`, `step`, `adapter`,
//! `state`, `reason` and the like; `message` and `priority` are the journal's own. `RUST_LOG` filters
//! both in the same way.

use std::io::{self, Write};

use env_logger::fmt::Formatter;
use log::kv::{self, Key, Source, Value, VisitSource};

/// Sets up logging for this process; to be called once, at its start.
///
/// `default` is the filter where `RUST_LOG` is not set, in its own words: `warn`, or
/// `latrod=info,warn` for the daemon.
pub fn init(default: &str) {
    let mut builder =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default));
    builder.format_key_values(write_fields);
    #[cfg(target_os = "linux")]
    if systemd_journal_logger::connected_to_journal() {
        match systemd_journal_logger::JournalLog::new() {
            Ok(journal) => {
                let journal = journal.with_syslog_identifier("latrod".into());
                install(filtered::Filtered::new(builder.build(), journal));
                return;
            }
            Err(e) => {
                builder.init();
                log::warn!("the journal cannot be reached ({e}): logging to the standard error");
                return;
            }
        }
    }
    builder.init();
}

#[cfg(target_os = "linux")]
fn install(logger: filtered::Filtered<systemd_journal_logger::JournalLog>) {
    let level = logger.level();
    // Fails only where a logger is installed already, and then that one serves.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes ` key=value` for each field, quoted where it would not be one word on one line.
fn write_fields(to: &mut Formatter, fields: &dyn Source) -> io::Result<()> {
    struct Fields<W>(W);
    impl<'kvs, W: Write> VisitSource<'kvs> for Fields<W> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            let value = value.to_string();
            let quoted = value.is_empty()
                || value
                    .contains(|c: char| c.is_whitespace() || c.is_control() || "\"=".contains(c));
            if quoted {
                write!(self.0, " {key}={value:?}")?;
            } else {
                write!(self.0, " {key}={value}")?;
            }
            Ok(())
        }
    }
    fields.visit(&mut Fields(to)).map_err(io::Error::other)
}

/// A logger behind `RUST_LOG`: the journal's own takes everything.
#[cfg(any(target_os = "linux", test))]
mod filtered {
    use log::{LevelFilter, Log, Metadata, Record};

    pub struct Filtered<L> {
        filter: env_logger::Logger,
        logger: L,
    }

    impl<L: Log> Filtered<L> {
        pub fn new(filter: env_logger::Logger, logger: L) -> Self {
            Self { filter, logger }
        }

        /// The most that can pass.
        pub fn level(&self) -> LevelFilter {
            self.filter.filter()
        }
    }

    impl<L: Log> Log for Filtered<L> {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.filter.enabled(metadata)
        }

        fn log(&self, record: &Record<'_>) {
            if self.filter.matches(record) {
                self.logger.log(record);
            }
        }

        fn flush(&self) {
            self.logger.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::{Level, LevelFilter, Log, Metadata, Record};

    use super::filtered::Filtered;
    use super::*;

    /// What was written to it.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log for Page {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            writeln!(self.0.lock().unwrap(), "{}", record.args()).unwrap();
        }

        fn flush(&self) {}
    }

    fn record<'a>(level: Level, target: &'a str, fields: &'a dyn Source) -> Record<'a> {
        Record::builder()
            .level(level)
            .target(target)
            .args(format_args!("text"))
            .key_values(fields)
            .build()
    }

    #[test]
    fn fields_follow_the_text_and_stay_on_its_line() {
        let page = Page::default();
        let mut builder = env_logger::Builder::new();
        builder.filter_level(LevelFilter::Info).format_timestamp(None).format_target(false);
        builder.format_key_values(write_fields);
        builder.write_style(env_logger::WriteStyle::Never);
        builder.target(env_logger::Target::Pipe(Box::new(page.clone())));
        let logger = builder.build();

        let fields =
            [("event", "promoted"), ("reason", "two words\n[ERROR] forged"), ("adapter", "")];
        logger.log(&record(Level::Info, "latrod", &fields));

        let expected =
            "[INFO ] text event=promoted reason=\"two words\\n[ERROR] forged\" adapter=\"\"\n";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn the_same_filter_stands_before_any_logger() {
        let page = Page::default();
        let filter = env_logger::Builder::new().parse_filters("latrod=info,warn").build();
        let logger = Filtered::new(filter, page.clone());
        let none: [(&str, &str); 0] = [];

        for (level, target) in [
            (Level::Info, "latrod::daemon"),
            (Level::Debug, "latrod::daemon"),
            (Level::Info, "rumqttc"),
            (Level::Warn, "rumqttc"),
        ] {
            logger.log(&record(level, target, &none));
        }

        assert_eq!(page.text().lines().count(), 2);
        assert_eq!(logger.level(), LevelFilter::Info);
    }
}
