//! What thinking before the answer does for the answer: Δ.

use crate::promotion::evaluate::QuestionResult;

/// How likely right answers are after what a policy wrote, and how likely without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thinking {
    pub questions: usize,
    /// Mean probability of the right answer after the response: E p(y|x,z).
    pub p_after: f64,
    /// The same without: E p(y|x).
    pub p_direct: f64,
    /// E [log p(y|x,z) − log p(y|x)], nats.
    pub delta_log_p: f64,
}

impl Thinking {
    /// Over all questions.
    #[must_use]
    pub fn of(results: &[QuestionResult]) -> Self {
        let n = results.len().max(1) as f64;
        let mean = |f: &dyn Fn(&QuestionResult) -> f64| results.iter().map(f).sum::<f64>() / n;
        Self {
            questions: results.len(),
            p_after: mean(&|r| r.log_p_answer.exp()),
            p_direct: mean(&|r| r.log_p_direct.exp()),
            delta_log_p: mean(&|r| r.log_p_answer - r.log_p_direct),
        }
    }

    /// What it does for the right answer's probability.
    #[must_use]
    pub fn delta_p(&self) -> f64 {
        self.p_after - self.p_direct
    }

    /// Whether the right answer is likelier after thinking, on average, or as likely.
    #[must_use]
    pub fn helps(&self) -> bool {
        self.delta_p() >= 0.0
    }

    /// What was measured and what follows, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { questions, p_after, p_direct, delta_log_p } = self;
        let follows = match self.helps() {
            true => "it learns to think (latro)",
            false => "thinking does not help here: it learns to answer at once (sft)",
        };
        format!(
            "on {questions} tasks the right answer has a probability of {p_after:.3} after the model's \
             response and of {p_direct:.3} at once (log p {delta_log_p:+.2}); {follows}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: &[(f64, f64)]) -> Thinking {
        let one = |&(after, direct): &(f64, f64)| QuestionResult {
            correct: false,
            given: None,
            wanted: "7".into(),
            response: String::new(),
            response_tokens: 0,
            finished: true,
            forced: None,
            log_p_answer: f64::ln(after),
            log_p_direct: f64::ln(direct),
            answer_tokens: 1,
            rationale_tokens: 0,
            majority_correct: None,
        };
        Thinking::of(&answers.iter().map(one).collect::<Vec<_>>())
    }

    #[test]
    fn rationales_that_go_wrong_do_not_outweigh_those_that_are_right() {
        let arithmetic = of(&[(0.99, 0.05), (1e-6, 0.05), (1e-6, 0.05)]);
        let classification = of(&[(0.6, 0.7), (0.3, 0.4)]);

        assert!(arithmetic.helps() && arithmetic.delta_log_p < 0.0);
        assert!(!classification.helps());
        assert!(arithmetic.sentence().contains("0.330 after"), "{}", arithmetic.sentence());
        assert!(classification.sentence().contains("answer at once"));
    }
}
