//! Settings of the learner that are one of a few words.

use crate::settings::{Choice, choices};

choices! {
    /// What is learned from.
    pub enum Method {
        /// Sampled rationales, rewarded by the likelihood of the right answer.
        Latro = "latro",
        /// The right answer alone, without a rationale, supervised.
        Sft = "sft",
        /// The worked rationales that tasks come with, as in GSM8K, and their answers, supervised.
        SftRationale = "sft_rationale",
        /// `latro` if the model, before it learns, finds the right answers likelier after thinking than
        /// at once; else `sft`.
        Auto = "auto",
    }
}

impl Method {
    /// Whether a model that has learned so writes a rationale before its answer.
    #[must_use]
    pub const fn thinks(self) -> bool {
        !matches!(self, Self::Sft)
    }

    /// [`Self::thinks`] by the word that an adapter's folder has for its method. One that another
    /// program has made thinks.
    #[must_use]
    pub fn word_thinks(word: &str) -> bool {
        word != Self::Sft.word()
    }

    /// Whether it samples rationales to learn from.
    #[must_use]
    pub const fn samples(self) -> bool {
        matches!(self, Self::Latro | Self::Auto)
    }
}

choices! {
    /// How the likelihood of the answer's tokens becomes one number.
    pub enum RewardKind {
        /// The sum of the tokens' log-probabilities (LaTRO, eq. 4).
        LogProb = "log_prob",
        /// Their mean, so that long answers don't outweigh short ones.
        MeanLogProb = "mean_log_prob",
        /// The mean of the tokens' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that
        /// one very unlikely token doesn't drown out the others. For long answers.
        MeanProb = "mean_prob",
        /// Their product, the probability of the answer (VeriFree, arXiv 2505.21493): between 0 and 1.
        /// For short answers.
        Prob = "prob",
        /// The share of a rationale in the log of the group's mean probability (JEPO, arXiv
        /// 2503.19618).
        Jepo = "jepo",
    }
}

choices! {
    /// Where a rationale ends and what follows it.
    pub enum Seam {
        /// It ends with the turn or before "the answer is"; our own "The answer is …" follows,
        /// whatever the model would have said. As in the paper.
        Phrase = "phrase",
        /// The model announces the answer in its own way; only the answer and what closes it are put
        /// in place of the model's. A rationale that announces nothing earns nothing.
        Policy = "policy",
    }
}

choices! {
    /// Which tokens after the rationale the reward looks at.
    pub enum Span {
        /// The answer phrase, the answer and the end of the turn.
        Full = "full",
        /// The answer's own tokens.
        Answer = "answer",
        /// `full` and the rationale's last token, as in the authors' code.
        Released = "released",
    }
}

choices! {
    /// How a rationale is judged that used up its tokens without coming to an end.
    pub enum Truncation {
        /// Like any other, as in the paper.
        Keep = "keep",
        /// Its advantage is at most 0, so that being cut off is never encouraged.
        NeverPays = "never_pays",
        /// Its likelihood counts as 0, which is the worst there is where likelihoods are
        /// probabilities.
        Zero = "zero",
        /// Its likelihood is twice the mean of its group, as in the authors' code: worse than most,
        /// where likelihoods are logarithms.
        DoubleMean = "double_mean",
    }
}

choices! {
    /// What the first steps learn from, supervised.
    pub enum WarmStart {
        /// The worked rationales that tasks come with, as in GSM8K; `own` where they have none.
        Worked = "worked",
        /// The shortest right one that the model has sampled (expert iteration).
        Own = "own",
    }
}

choices! {
    /// What the learning rate does after the warm-up.
    pub enum Schedule {
        /// Falls in a straight line to 0 at the end of the run.
        Linear = "linear",
        /// Falls along half a cosine to 0 at the end of the run.
        Cosine = "cosine",
        /// Stays.
        Constant = "constant",
    }
}

choices! {
    /// In which order tasks come up.
    pub enum TaskOrder {
        /// All of them once, in random order, before any comes up again.
        Shuffled = "shuffled",
        /// At random, those more often that the model sometimes gets right and sometimes not.
        Success = "success",
    }
}
