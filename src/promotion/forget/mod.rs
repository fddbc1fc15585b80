//! Measures how far an adapter has moved the model on general prompts, a sign of forgetting.
//!
//! For each token of some texts that have nothing to do with the tasks, the distribution that the
//! base model gives is compared with the adapted model's: KL(base ‖ adapted) = Σᵢ pᵢ·(log pᵢ −
//! log qᵢ) over the vocabulary, in nats, averaged over tokens. It is 0 for an adapter that changes
//! nothing and grows with anything that it does change, wanted or not; so it says how much else has
//! moved, not whether that is bad.
//!
//! Knows no files: texts come in as values. The built-in ones are prose, answers to instructions (in
//! the model's own chat template), code and seven other languages, some 1500 tokens together.

use serde::{Deserialize, Serialize};

use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, Input, ModelError};
use crate::kernels::Floats;
use crate::kernels::threads::for_each;
use crate::latro::prompt::{PromptError, Prompter};
use crate::ops::head::logits_macs;

/// Rows whose logits exist at a time, for both models: 32 MiB with a vocabulary of 262144.
const CHUNK_ROWS: usize = 16;
/// Tokens of a text that are looked at.
const MAX_TEXT_TOKENS: usize = 256;
/// The most texts.
pub const MAX_TEXTS: usize = 1000;
/// The built-in texts.
const BUILT_IN: &str = include_str!("general.jsonl");

/// How far an adapted model is from its base on general prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forget {
    /// Mean of KL(base ‖ adapted) over the predicted tokens, nats.
    pub kl_nats_per_token: f64,
    /// The highest mean of a single text, nats per token.
    pub worst_text_nats_per_token: f64,
    /// Texts.
    pub texts: usize,
    /// Predicted tokens.
    pub tokens: usize,
}

/// A general prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneralText {
    /// What a user asks; the text is then the model's turn. Without it there is only the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The text whose tokens are predicted.
    pub text: String,
}

/// The built-in texts.
///
/// # Panics
/// Never: a test reads them.
#[must_use]
pub fn built_in() -> Vec<GeneralText> {
    parse(BUILT_IN).expect("the built-in texts are well formed")
}

/// Reads texts, one JSON object a line: `{"text": …}` or `{"prompt": …, "text": …}`.
///
/// # Errors
/// The number of the first line that is none (0 for a fault of the whole), and a reason.
pub fn parse(lines: &str) -> Result<Vec<GeneralText>, (usize, String)> {
    let mut texts = Vec::new();
    for (i, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        if texts.len() == MAX_TEXTS {
            return Err((i + 1, format!("there are more than {MAX_TEXTS} texts")));
        }
        // What the parser says could quote the line.
        let text = serde_json::from_str(line).map_err(|_| {
            (i + 1, "it is not a JSON object with \"text\" and optionally \"prompt\"".to_owned())
        })?;
        texts.push(text);
    }
    if texts.is_empty() { Err((0, "it holds no text".into())) } else { Ok(texts) }
}

/// A text as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneralTokens {
    ids: Vec<u32>,
    /// Tokens before the first that counts; at least 1.
    given: usize,
}

impl GeneralTokens {
    /// Tokens, of which those after the first `given` count; `None` if that leaves none.
    #[must_use]
    pub fn new(ids: Vec<u32>, given: usize) -> Option<Self> {
        let given = given.max(1);
        (ids.len() > given).then_some(Self { ids, given })
    }

    /// The text for a model: in its chat template if there is a prompt, else after BOS where the
    /// model wants one. Cut to the model's context; `None` if nothing is left to predict.
    ///
    /// # Errors
    /// A prompt that the model's template refuses.
    pub fn of(
        text: &GeneralText,
        prompter: &Prompter,
        context: usize,
    ) -> Result<Option<Self>, PromptError> {
        let tokenizer = prompter.tokenizer();
        let mut ids = match &text.prompt {
            Some(prompt) => prompter.prompt(prompt)?,
            None => tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect(),
        };
        let given = ids.len();
        ids.extend(tokenizer.encode(&text.text, false)?);
        if text.prompt.is_some() {
            ids.push(prompter.turn_end());
        }
        ids.truncate(context.min(given + MAX_TEXT_TOKENS));
        Ok(Self::new(ids, given))
    }

    /// The tokens.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens count.
    #[must_use]
    pub fn predicted(&self) -> usize {
        self.ids.len() - self.given
    }
}

/// Σ KL(base ‖ adapted) over the predicted tokens of a text, nats.
///
/// # Errors
/// [`ModelError::NonFinite`] if a model computes no numbers, [`ModelError::Interrupted`] between
/// blocks, [`ModelError::Token`], a failing device.
pub fn text_kl<E: Engine>(
    model: &E,
    lora: &E::Adapter,
    text: &GeneralTokens,
    interrupt: &Interrupt,
) -> Result<f64, ModelError> {
    let ids = &text.ids;
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let input = Input::causal(ids, &positions);
    let hidden = |lora| model.hidden(input.clone(), None, lora, interrupt);
    let (base, adapted) = (hidden(None)?, hidden(Some(lora))?);

    let vocabulary = model.spec().vocab;
    // The row before a token predicts it.
    let rows: Vec<usize> = (text.given - 1..ids.len() - 1).collect();
    let (mut p, mut q) = (Floats::default(), Floats::default());
    let mut sum = 0.0;
    for rows in rows.chunks(CHUNK_ROWS) {
        interrupt.check()?;
        model.logits(&base, rows, &mut p)?;
        model.logits(&adapted, rows, &mut q)?;
        let rows = p.chunks_exact(vocabulary).zip(q.chunks_exact(vocabulary));
        let mut rows: Vec<_> = rows.map(|(p, q)| (p, q, 0.0)).collect();
        for_each(
            &mut rows,
            logits_macs(2 * p.len() / vocabulary, vocabulary),
            |(p, q, distance)| {
                *distance = kl(p, q);
            },
        );
        // In the order of rows, so that the sum does not depend on threads.
        sum += rows.iter().map(|(_, _, distance)| distance).sum::<f64>();
    }
    if sum.is_finite() { Ok(sum) } else { Err(ModelError::NonFinite { what: "logits" }) }
}

/// KL(p ‖ q) of the distributions with these logits, nats: Σ eˡ⁻ᴸ·(l − m) − L + M with the
/// logarithms L and M of the sums of exponentials. Never below 0 by rounding.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let peak = |x: &[f32]| f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (p_peak, q_peak) = (peak(p), peak(q));
    let (mut p_sum, mut q_sum, mut weighted) = (0.0, 0.0, 0.0);
    for (&l, &m) in p.iter().zip(q) {
        let (l, m) = (f64::from(l) - p_peak, f64::from(m) - q_peak);
        let e = l.exp();
        p_sum += e;
        q_sum += m.exp();
        weighted += e * (l - m);
    }
    let kl = weighted / p_sum - p_sum.ln() + q_sum.ln();
    // Not `max`, which would turn a NaN into 0.
    if kl < 0.0 { 0.0 } else { kl }
}

/// Sums up texts: for each its Σ KL and its predicted tokens. `None` for no tokens.
#[must_use]
pub fn summarize(texts: &[(f64, usize)]) -> Option<Forget> {
    let tokens: usize = texts.iter().map(|(_, tokens)| tokens).sum();
    let sum: f64 = texts.iter().map(|(sum, _)| sum).sum();
    let means = texts.iter().map(|(sum, tokens)| sum / (*tokens).max(1) as f64);
    (tokens > 0).then(|| Forget {
        kl_nats_per_token: sum / tokens as f64,
        worst_text_nats_per_token: means.fold(0.0, f64::max),
        texts: texts.len(),
        tokens,
    })
}

#[cfg(test)]
mod tests;
