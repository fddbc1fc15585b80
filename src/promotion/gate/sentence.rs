//! Puts the gate's reasons into words.

use super::{Evidence, Finding, GateSettings, Paired};

/// Why a candidate was promoted or not.
pub(super) fn of_decision(
    settings: &GateSettings,
    paired: &Paired,
    finding: Finding,
    evidence: Option<&Evidence>,
) -> String {
    match finding {
        Finding::Forgot => match paired.forget {
            Some(forget) => format!(
                "the candidate is {:.4} nats per token from the base model on general prompts, more \
                 than the {} allowed",
                forget.kl_nats_per_token, settings.max_kl_nats_per_token
            ),
            None => "the candidate was not measured on the general prompts".into(),
        },
        _ => common(settings, paired, finding, evidence, "promotion"),
    }
}

/// Why an active adapter was kept or rolled back.
pub(super) fn of_check(
    settings: &GateSettings,
    paired: &Paired,
    finding: Finding,
    evidence: Option<&Evidence>,
) -> String {
    common(settings, paired, finding, evidence, "rollback")
}

fn common(
    settings: &GateSettings,
    paired: &Paired,
    finding: Finding,
    evidence: Option<&Evidence>,
    what: &str,
) -> String {
    let n = paired.questions.len();
    let Some(evidence) = evidence.filter(|_| finding != Finding::TooFew) else {
        return match finding {
            Finding::TooFew => {
                let min = settings.min_questions.max(2);
                format!("{n} questions are too few to decide on; {min} are needed")
            }
            _ => "the likelihood of an answer is not a finite number".into(),
        };
    };
    let head = match finding {
        Finding::LikelihoodGained => "the right answers are more likely",
        Finding::AccuracyGained => "more answers are right",
        Finding::AccuracyFell => "fewer answers are right",
        Finding::LikelihoodFell => "the right answers are less likely",
        Finding::AccuracyLow => "the right answers are more likely, but hardly one is given",
        _ => "no gain is proven",
    };
    let (a, l) = (&evidence.accuracy, &evidence.log_p_per_token);
    let sure = 100.0 * (1.0 - evidence.tail);
    let (percent, points) = (100.0 * a.candidate, 100.0 * a.gain.estimate);
    let (low, high) = (100.0 * a.gain.lower, 100.0 * a.gain.upper);
    let (gain, lower, upper) = (l.gain.estimate, l.gain.lower, l.gain.upper);
    format!(
        "{head}: accuracy {percent:.1} % ({points:+.1} points, bounds {low:+.1} to {high:+.1}), log p \
         of the answer {:.4} nats per token ({gain:+.4}, bounds {lower:+.4} to {upper:+.4}); {n} \
         questions, {what} asks for {sure:.2} % certainty",
        l.candidate
    )
}
