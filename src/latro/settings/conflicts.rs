//! What must hold between settings that are each in order.

use super::{RewardKind, Seam, TaskOrder, TrainSettings, Truncation};
use crate::settings::{Choice, Problem};

impl TrainSettings {
    pub(super) fn conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |ok: bool, name: &'static str, sentence: String| {
            if !ok {
                found.push((name, sentence));
            }
        };
        let k = self.num_generations;
        check(
            !self.method.samples() || k >= 2,
            "num_generations",
            format!("is {k}, but a rationale is compared with others: use at least 2"),
        );
        let (least, most) = (self.min_rationale_tokens, self.max_new_tokens);
        check(
            least == 0 || least < most,
            "min_rationale_tokens",
            format!("is {least}: use less than max_new_tokens, {most}"),
        );
        check(
            least == 0 || self.truncation == Truncation::NeverPays,
            "min_rationale_tokens",
            format!(
                "is {least}, but only truncation never_pays looks at it: choose that or leave \
                 min_rationale_tokens at 0"
            ),
        );
        check(!self.target_modules.is_empty(), "target_modules", "is empty: name a layer".into());
        for (i, target) in self.target_modules.iter().enumerate() {
            check(
                !self.target_modules[..i].contains(target),
                "target_modules",
                format!("names {} twice: name it once", target.peft_name()),
            );
        }
        found.extend(self.reward_conflicts());
        found
    }

    /// Rewards that don't go with what is done with them.
    fn reward_conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |ok: bool, name: &'static str, sentence: String| {
            if !ok {
                found.push((name, sentence));
            }
        };
        let probability =
            matches!(self.reward, RewardKind::Prob | RewardKind::MeanProb | RewardKind::Jepo);
        let word = self.reward.word();
        let kinds = "use prob, mean_prob or jepo";
        check(
            self.update_generations != 1,
            "update_generations",
            "is 1, but a rationale is compared with others: use at least 2, or 0 for all".into(),
        );
        check(
            probability || self.seam != Seam::Policy,
            "reward",
            format!("is {word}, but with seam policy a rationale can earn nothing: {kinds}"),
        );
        check(
            probability || self.truncation != Truncation::Zero,
            "truncation",
            format!("is zero, which is the best that reward {word} can be: {kinds}"),
        );
        check(
            self.guess_weight == 0.0 || (probability && self.seam == Seam::Policy),
            "guess_weight",
            "is taken off probabilities, with seam policy: set it to 0, or use these".into(),
        );
        check(
            probability || !self.method.samples() || self.task_order != TaskOrder::Success,
            "task_order",
            format!("is success, but reward {word} is no chance of success: {kinds}"),
        );
        check(
            self.warm_start_steps == 0 || self.seam == Seam::Policy,
            "warm_start_steps",
            "is for seam policy, where rationales announce answers of their own: set it to 0"
                .into(),
        );
        check(
            self.seam != Seam::Policy || !self.answer_marks.is_empty(),
            "answer_marks",
            "is empty, so nothing can announce an answer: name at least one".into(),
        );
        found
    }
}
