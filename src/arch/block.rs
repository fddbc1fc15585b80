//! A transformer block as a list of steps, made from a family's description.
//!
//! The steps are the one place that says what a block computes. Engines carry them out, forwards and
//! backwards; the list of tensors, the loading of weights, the memory plan, the operation counts and
//! the groups of LoRA layers are read off them.

use super::Family;
use super::lora::Target;

/// A value that the steps of a block read and write: a row for each token of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// The residual stream, which the block is given and adds to.
    Residual,
    /// Normalized rows, for the linear layers that follow.
    Normed,
    /// Queries, keys and values, and what attention makes of them.
    Q,
    K,
    V,
    Attended,
    /// The two halves of the gated feed-forward network, and their product.
    Gate,
    Up,
    Gated,
    /// What a projection adds to the residual stream.
    Out,
}

impl Value {
    pub const ALL: [Self; 10] = [
        Self::Residual,
        Self::Normed,
        Self::Q,
        Self::K,
        Self::V,
        Self::Attended,
        Self::Gate,
        Self::Up,
        Self::Gated,
        Self::Out,
    ];

    /// Whether attention needs the value of every row at once. All others exist for a chunk of rows
    /// at a time.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::Attended)
    }
}

/// A small tensor of a block: `[width]`, f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vector {
    /// The weight of the norm in front of attention.
    AttentionNorm,
    /// The weight of the norm in front of the feed-forward network.
    FeedForwardNorm,
    /// What a linear layer adds to its product.
    Bias(Target),
}

impl Vector {
    /// The tensor's name in a GGUF block, for example `attn_norm.weight` in
    /// `blk.0.attn_norm.weight`.
    #[must_use]
    pub fn gguf_name(self) -> String {
        match self {
            Self::AttentionNorm => "attn_norm.weight".into(),
            Self::FeedForwardNorm => "ffn_norm.weight".into(),
            Self::Bias(target) => format!("{}.bias", target.gguf_name()),
        }
    }
}

/// One step of a block. A step whose gradient needs its inputs never works in place, so that what it
/// read is still there in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `to` = RMS norm of `from`, times a weight.
    Norm { weight: Vector, from: Value, to: Value },
    /// `to[i]` = `from` · `layers[i]`ᵀ, with LoRA updates; `group` counts these steps in a block.
    Linear { group: usize, layers: &'static [Target], from: Value, to: &'static [Value] },
    /// `value` += a bias.
    Bias { weight: Vector, value: Value },
    /// `value` is rotated by its row's position, head by head.
    Rope { value: Value },
    /// [`Value::Gated`] = silu([`Value::Gate`]) · [`Value::Up`]. Its gradient computes the product
    /// again, so that the linear layer that reads it need not keep it.
    Gate,
    /// The residual stream += `from`.
    Add { from: Value },
}

impl Step {
    /// The values that it reads.
    fn reads(&self) -> Vec<Value> {
        match *self {
            Self::Norm { from, .. } | Self::Linear { from, .. } => vec![from],
            Self::Bias { value, .. } | Self::Rope { value } => vec![value],
            Self::Gate => vec![Value::Gate, Value::Up],
            Self::Add { from } => vec![Value::Residual, from],
        }
    }

    /// The values that it writes.
    #[must_use]
    pub fn writes(&self) -> Vec<Value> {
        match *self {
            Self::Norm { to, .. } => vec![to],
            Self::Linear { to, .. } => to.to_vec(),
            Self::Bias { value, .. } | Self::Rope { value } => vec![value],
            Self::Gate => vec![Value::Gated],
            Self::Add { .. } => vec![Value::Residual],
        }
    }

    /// The values, as they were before the step, that its gradient needs.
    fn keeps(&self) -> Vec<Value> {
        match *self {
            Self::Linear { from: Value::Gated, .. }
            | Self::Bias { .. }
            | Self::Rope { .. }
            | Self::Add { .. } => vec![],
            Self::Norm { .. } | Self::Linear { .. } | Self::Gate => self.reads(),
        }
    }
}

/// The steps of a block, around its attention, which makes [`Value::Attended`] of [`Value::Q`],
/// [`Value::K`] and [`Value::V`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub before: Vec<Step>,
    pub after: Vec<Step>,
}

const QKV: (&[Target], &[Value]) =
    (&[Target::Q, Target::K, Target::V], &[Value::Q, Value::K, Value::V]);
const GATE_UP: (&[Target], &[Value]) = (&[Target::Gate, Target::Up], &[Value::Gate, Value::Up]);

impl Block {
    /// The block of a family.
    #[must_use]
    pub fn new(family: &Family) -> Self {
        let mut groups = 0..;
        let mut linear = |from, (layers, to): (&'static [Target], &'static [Value])| {
            let group = groups.next().unwrap_or_default();
            let biases = layers.iter().zip(to).filter(|(target, _)| family.biases.contains(target));
            let biases = biases.map(|(&target, &value)| {
                let weight = Vector::Bias(target);
                Step::Bias { weight, value }
            });
            let step = Step::Linear { group, layers, from, to };
            std::iter::once(step).chain(biases).collect::<Vec<_>>()
        };
        let norm = |weight| Step::Norm { weight, from: Value::Residual, to: Value::Normed };

        let mut before = vec![norm(Vector::AttentionNorm)];
        before.extend(linear(Value::Normed, QKV));
        before.extend([Value::Q, Value::K].map(|value| Step::Rope { value }));

        let mut after = linear(Value::Attended, (&[Target::O], &[Value::Out]));
        after.push(Step::Add { from: Value::Out });
        after.push(norm(Vector::FeedForwardNorm));
        after.extend(linear(Value::Normed, GATE_UP));
        after.push(Step::Gate);
        after.extend(linear(Value::Gated, (&[Target::Down], &[Value::Out])));
        after.push(Step::Add { from: Value::Out });
        Self { before, after }
    }

    /// All steps in their order; attention comes between the two lists.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().chain(&self.after)
    }

    /// The layers of each linear step: these share their input, and their LoRA updates are computed
    /// together.
    pub fn groups(&self) -> impl Iterator<Item = &'static [Target]> {
        self.steps().filter_map(|step| match step {
            Step::Linear { layers, .. } => Some(*layers),
            _ => None,
        })
    }

    /// The small tensors, each with the value whose width it has.
    pub fn vectors(&self) -> impl Iterator<Item = (Vector, Value)> {
        self.steps().filter_map(|step| match *step {
            Step::Norm { weight, from, .. } => Some((weight, from)),
            Step::Bias { weight, value } => Some((weight, value)),
            _ => None,
        })
    }

    /// Every value that the steps or attention write, once.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        let mut all: Vec<Value> = self.steps().flat_map(Step::writes).collect();
        all.push(Value::Attended);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Those of `steps` (one of a block's two lists) that must be carried out again, from what they were
/// given, before their gradients can be taken from the last to the first.
#[must_use]
pub fn recomputed(steps: &[Step]) -> Vec<Step> {
    let mut wanted: Vec<Value> = Vec::new();
    let mut again = Vec::new();
    for step in steps.iter().rev() {
        let writes = step.writes();
        if wanted.iter().any(|value| writes.contains(value)) {
            wanted.retain(|value| !writes.contains(value));
            wanted.extend(step.reads());
            again.push(*step);
        }
        wanted.extend(step.keeps());
    }
    again.reverse();
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::FAMILIES;

    #[test]
    fn a_llama_block_is_the_familiar_one() {
        let block = Block::new(FAMILIES[0]);

        let groups: Vec<_> = block.groups().collect();
        assert_eq!(groups, [QKV.0, &[Target::O], GATE_UP.0, &[Target::Down]]);
        assert_eq!(groups.concat(), Target::ALL);
        let vectors: Vec<_> = block.vectors().collect();
        assert_eq!(
            vectors,
            [(Vector::AttentionNorm, Value::Residual), (Vector::FeedForwardNorm, Value::Residual)]
        );
        assert_eq!(block.values(), Value::ALL);
    }

    #[test]
    fn a_gradient_computes_again_what_it_needs_and_nothing_else() {
        for family in FAMILIES {
            let block = Block::new(family);

            let before = recomputed(&block.before);
            let after = recomputed(&block.after);

            assert_eq!(before, block.before[..1], "the projections need the normed rows");
            // All but the gate, whose gradient gives the product, the last projection and its sum.
            assert_eq!(after, block.after[..block.after.len() - 3]);
        }
    }

    #[test]
    fn no_step_works_in_place_on_what_a_gradient_needs() {
        for step in FAMILIES.iter().flat_map(|f| Block::new(f).steps().copied().collect::<Vec<_>>())
        {
            let (writes, keeps) = (step.writes(), step.keeps());
            assert!(!keeps.iter().any(|value| writes.contains(value)), "{step:?}");
        }
    }
}
