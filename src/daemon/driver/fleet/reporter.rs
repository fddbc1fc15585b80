//! Reports to the journal and to the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use log::Level;

use crate::config::Config;
use crate::contract::event::{Event, Severity};
use crate::contract::wire;
use crate::latro::metrics::StepMetrics;
use crate::report::ReportError;
use crate::report::inbox::{Accepted, CommandOutcome};
use crate::report::mqtt::{DeviceIdentity, Link, LinkCounts, LinkEvent};
use crate::store::ledger::{Ledger, LedgerError};
use crate::worker::protocol::Loaded;

/// The link to the fleet, and what was told over it.
pub(in crate::daemon::driver) struct Reporter {
    link: Link,
    /// When the state was last told, on the driver's clock.
    pub state_told: Duration,
    birth: wire::Birth,
}

impl Reporter {
    pub fn new(config: &Config) -> Result<Self, String> {
        let name = config.device.resolved_name();
        let identity =
            DeviceIdentity::new(&config.device.fleet, &name).map_err(|e| e.to_string())?;
        let mut link = Link::new(config.mqtt.clone(), identity).map_err(|e| e.to_string())?;
        if let Some(password) = config.mqtt_password().map_err(|e| e.to_string())? {
            link = link.with_password(password.reveal().to_owned());
        }
        let birth = super::birth::birth(config.device.tags());
        link.set_birth(birth.clone());
        Ok(Self { link, state_told: Duration::ZERO, birth })
    }

    /// The next thing from the broker.
    pub async fn next(&mut self, ledger: Option<&Ledger>) -> LinkEvent {
        self.link.poll(ledger.map(Ledger::connection)).await
    }

    /// Ends the connection in good order.
    pub async fn stop(&mut self, within: Duration, ledger: Option<&Ledger>) {
        self.link.stop(ledger.map(Ledger::connection), within).await;
    }

    pub fn counts(&self, ledger: Option<&Ledger>) -> LinkCounts {
        self.link.counts(ledger.map(Ledger::connection))
    }

    /// Refuses commands from before a ledger was lost: they might be done twice.
    pub const fn refuse_issued_until(&mut self, unix_s: u64) {
        self.link.refuse_issued_until(unix_s);
    }

    /// The model is known now.
    pub fn loaded(&mut self, loaded: &Loaded) {
        self.birth.model = Some(wire::ModelInfo {
            sha256: loaded.sha256.clone(),
            architecture: loaded.architecture.clone(),
            quantization: loaded.quantization.clone(),
            file_mib: loaded.file_bytes >> 20,
        });
        let plan = &loaded.plan;
        self.birth.memory_plan_mib = [
            ("weights", plan.weights),
            ("sampling", plan.sampling),
            ("training", plan.training),
            ("total", plan.total),
            ("limit", loaded.limit_mib),
        ]
        .map(|(name, mib)| (name.to_owned(), mib as f64))
        .into();
        self.link.set_birth(self.birth.clone());
    }

    pub fn progress(&mut self, metrics: &StepMetrics, steps: u64) {
        let numbers = numbers(metrics);
        let pairs = numbers.iter().map(|(name, value)| (name.as_str(), *value));
        self.link.progress(&wire::StepProgress::new(metrics.step, steps, pairs));
    }

    pub fn state(&mut self, state: wire::State) {
        self.link.set_state(state);
    }

    /// Tells of an event, now.
    pub fn event(&mut self, ledger: Option<&Ledger>, event: &Event) {
        write_down(event);
        self.link.event(ledger.map(Ledger::connection), event);
    }

    /// Enqueues an event within the ledger's transaction.
    pub fn enqueue(&self, ledger: &Ledger, event: &Event) -> Result<(), LedgerError> {
        passing(self.link.event_in(ledger.connection(), event))
    }

    /// The transaction of [`Self::enqueue`] was committed.
    #[expect(clippy::unused_self, reason = "the second half of `enqueue`")]
    pub fn told_in_transaction(&self, event: &Event) {
        write_down(event);
    }

    /// Commands that a former start has left unfinished, oldest first.
    pub fn unfinished(&self, ledger: &Ledger) -> Result<Vec<Accepted>, LedgerError> {
        match self.link.unfinished(ledger.connection()) {
            Ok(open) => Ok(open),
            Err(error) => passing(Err(error)).map(|()| Vec::new()),
        }
    }

    /// A command runs, within the ledger's transaction.
    pub fn start(&self, ledger: &Ledger, id: &str) -> Result<(), LedgerError> {
        passing(self.link.start(ledger.connection(), id))
    }

    /// A command has ended, within the ledger's transaction.
    pub fn finish(
        &self,
        ledger: &Ledger,
        id: &str,
        outcome: CommandOutcome,
    ) -> Result<(), LedgerError> {
        passing(self.link.finish(ledger.connection(), id, outcome))
    }
}

/// The ledger's errors; anything else that is wrong with a message must not undo what it tells of.
fn passing(result: Result<(), ReportError>) -> Result<(), LedgerError> {
    match result {
        Ok(()) => Ok(()),
        Err(ReportError::Ledger(error)) => Err(error.into()),
        Err(error) => {
            log::error!("{error}");
            Ok(())
        }
    }
}

/// Writes an event to the journal, its fields as the journal's.
fn write_down(event: &Event) {
    let level = match event.severity() {
        Severity::Info => Level::Info,
        Severity::Warning => Level::Warn,
        Severity::Error => Level::Error,
    };
    let fields: BTreeMap<String, String> = event
        .fields()
        .into_iter()
        .map(|(name, value)| {
            (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    let message = format_args!("{event}").to_string();
    let pairs: Vec<(&str, &str)> = std::iter::once(("event", event.name()))
        .chain(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .collect();
    let source: &[(&str, &str)] = &pairs;
    log::logger().log(
        &log::Record::builder()
            .level(level)
            .target("latrod::daemon")
            .module_path(Some("latrod::daemon"))
            .key_values(&source)
            .args(format_args!("{message}"))
            .build(),
    );
}

/// A step's numbers by the names that they have in `metrics.jsonl`.
pub(in crate::daemon::driver) fn numbers(metrics: &StepMetrics) -> BTreeMap<String, f64> {
    let value = serde_json::to_value(metrics).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}
