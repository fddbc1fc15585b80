//! What sysinfo reports of a Mac: load, memory and temperatures. There is no `/proc` and no `/sys`,
//! so pressure, GPU, power, people and systemd's inhibitors are absent there.

use sysinfo::{Components, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// A Mac's counters.
#[derive(Debug)]
pub struct Mac {
    system: System,
    components: Option<Components>,
    /// Whether the CPU was asked before: the first answer means nothing.
    asked: bool,
}

impl Mac {
    /// `None` if the system refuses to answer: then everything is absent.
    pub fn new() -> Option<Self> {
        Some(Self {
            system: System::new().ok()?,
            components: Components::new_with_refreshed_list().ok(),
            asked: false,
        })
    }

    /// CPU time of all processes but `pids` since the last call, in percent of all cores; none at
    /// the first call. Refreshes memory and temperatures on the way.
    pub fn others(&mut self, pids: &[u32]) -> Option<f64> {
        let own: Vec<Pid> = pids.iter().map(|&pid| Pid::from_u32(pid)).collect();
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&own),
            true,
            ProcessRefreshKind::nothing().with_cpu(),
        );
        if let Some(components) = &mut self.components {
            components.refresh(false);
        }
        if !std::mem::replace(&mut self.asked, true) {
            return None;
        }
        let cores = self.system.cpus().len().max(1) as f64;
        // A process's usage is in percent of one core.
        let ours: f64 = own
            .iter()
            .filter_map(|&pid| self.system.process(pid))
            .map(|process| f64::from(process.cpu_usage()))
            .sum();
        let all = f64::from(self.system.global_cpu_usage());
        Some((all - ours / cores).clamp(0.0, 100.0))
    }

    /// Memory that programs can get, in MiB, as of the last [`Self::others`].
    pub fn available_mib(&self) -> f64 {
        self.system.available_memory() as f64 / f64::from(1 << 20)
    }

    /// The hottest sensor in °C, as of the last [`Self::others`].
    pub fn hottest(&self) -> Option<f64> {
        self.components
            .iter()
            .flat_map(|components| components.iter())
            .filter_map(sysinfo::Component::temperature)
            .map(f64::from)
            .filter(|celsius| (-40.0..=125.0).contains(celsius))
            .reduce(f64::max)
    }
}
