//! Which numbers are drawn as curves, and what they are called.

/// A number that devices report again and again.
#[derive(Debug, Clone, Copy)]
pub struct CurveKind {
    /// Its name in messages.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Its unit; empty if it has none.
    pub unit: &'static str,
}

const fn kind(name: &'static str, title: &'static str, unit: &'static str) -> CurveKind {
    CurveKind { name, title, unit }
}

/// The curves of a device, in the order of its page: of what it learns (`progress`), then of the device itself
/// (`state`, signals).
pub const CURVES: [CurveKind; 14] = [
    kind("reward", "Reward", ""),
    kind("log_p_answer_per_token", "Log-likelihood of right answers", "nats a token"),
    kind("right_share", "Right answers among sampled ones", "share"),
    kind("pass_at_k", "Questions with a right sample", "share"),
    kind("rationale_tokens", "Rationale length", "tokens"),
    kind("finished_share", "Rationales that come to an end", "share"),
    kind("short_share", "Rationales under 20 tokens", "share"),
    kind("kl_per_token", "KL from the base model", "nats a token"),
    kind("entropy", "Entropy", "nats a token"),
    kind("grad_norm", "Gradient norm", ""),
    kind("peak_memory_mib", "Peak memory of the run", "MiB"),
    kind("temperature_celsius", "Temperature", "°C"),
    kind("cpu_load_percent", "Processor load of others", "%"),
    kind("free_memory_mib", "Free memory", "MiB"),
];

/// Whether a number is drawn, and so kept.
#[must_use]
pub fn is_kept(name: &str) -> bool {
    CURVES.iter().any(|curve| curve.name == name)
}
