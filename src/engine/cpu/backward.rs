//! A block's backward pass: from its input, which the forward pass has kept, everything else is
//! computed once more and then run backwards by hand.
//!
//! ```text
//! x ─► norm ─► q k v ─► rope ─► attention ─► o ─(+ x)─► middle ─► norm ─► gate up ─► swiglu ─► down ─(+ middle)─► y
//! ```

use crate::arch::lora::{LoraTensors, Target};
use crate::engine::cpu::adapter::{BlockLora, block_gradients};
use crate::engine::cpu::scratch::{Scratch, sized, span};
use crate::engine::cpu::transformer::{Rows, Transformer};
use crate::ops::attention::{HeadShape, attend};
use crate::ops::attention_backward::attend_backward;
use crate::ops::linear;
use crate::ops::linear::FactorGradients;
use crate::ops::swiglu::swiglu_backward;

/// Gradients of a block's LoRA factors, by target.
type Gradients<'a> = [Option<FactorGradients<'a>>; Target::ALL.len()];

impl Transformer {
    /// From `g: [rows, hidden]`, the gradient of block `index`'s output, to the gradient of its input
    /// `x`, in the same place; adds the gradients of the block's LoRA factors to `sums`.
    ///
    /// The keys and values that rows see are those of the pass alone.
    ///
    /// # Panics
    /// If the shapes of `x`, `rows`, `lora` and `sums` don't fit together.
    pub fn block_backward(
        &self,
        index: usize,
        (x, g): (&[f32], &mut [f32]),
        rows: &Rows,
        lora: &BlockLora,
        scratch: &mut Scratch,
        sums: &mut LoraTensors,
    ) {
        let shape = self.head_shape();
        let mut gradients = block_gradients(sums, index);
        self.queries_keys_values(index, x, rows, Some(lora), &mut scratch.forward);
        let Scratch { forward: s, backward: b } = &mut *scratch;
        b.kv.fill(shape, rows.plan.slots(), &rows.slots, &s.k, &s.v);
        sized(&mut s.attended, rows.len() * shape.q_width());
        attend(&s.q, b.kv.forward(), shape, &rows.plan, (&mut s.by_head, &mut s.attended));
        b.middle.copy_from(x);
        for piece in self.row_chunks.of(rows.len()) {
            let middle = &mut b.middle[span(&piece, self.spec.hidden)];
            self.add_attended(index, middle, &piece, Some(lora), s);
        }
        self.feed_forward_backward(index, g, lora, scratch, &mut gradients);
        self.attention_backward(index, (x, g), rows, lora, scratch, &mut gradients);
    }

    /// `g` becomes the gradient of `middle`.
    fn feed_forward_backward(
        &self,
        index: usize,
        g: &mut [f32],
        lora: &BlockLora,
        scratch: &mut Scratch,
        gradients: &mut Gradients<'_>,
    ) {
        let Scratch { forward: s, backward: b } = scratch;
        let (hidden, ffn) = (self.spec.hidden, self.spec.ffn);
        let norm = self.norm(&self.weights.blocks[index].ffn_norm);
        let (layers, group) = (self.gate_up(index), lora.gate_up.as_ref());
        for piece in self.row_chunks.of(g.len() / hidden) {
            let rows = piece.len();
            let (middle, g) = (&b.middle[span(&piece, hidden)], &mut g[span(&piece, hidden)]);
            let normed = sized(&mut s.normed, rows * hidden);
            norm.forward(middle, normed);
            let (gate, up) = (sized(&mut s.gate, rows * ffn), sized(&mut s.up, rows * ffn));
            linear::forward(layers, group, (normed, rows), &mut s.h, [&mut *gate, &mut *up]);

            let d = sized(&mut b.d_gated, rows * ffn);
            let (down, down_lora) = ([self.down(index)], lora.down.as_ref());
            linear::input_gradient(down, down_lora, [g], rows, (d, &mut b.dh));
            swiglu_backward(gate, up, d);
            let gated = &*d;
            let factors = take(gradients, [Target::Down]);
            linear::factor_gradients(down_lora, (gated, rows), [g], &b.dh, factors);

            let d_normed = sized(&mut b.d_normed, rows * hidden);
            let d = [&*gate, &*up];
            linear::input_gradient(layers, group, d, rows, (d_normed, &mut b.dh));
            let factors = take(gradients, [Target::Gate, Target::Up]);
            linear::factor_gradients(group, (normed, rows), d, &b.dh, factors);
            norm.backward(middle, d_normed, g);
        }
    }

    /// `g`, the gradient of `middle`, becomes that of `x`.
    fn attention_backward(
        &self,
        index: usize,
        (x, g): (&[f32], &mut [f32]),
        rows: &Rows,
        lora: &BlockLora,
        scratch: &mut Scratch,
        gradients: &mut Gradients<'_>,
    ) {
        let Scratch { forward: s, backward: b } = scratch;
        let shape = self.head_shape();
        let HeadShape { heads, kv_heads, head_dim } = shape;
        let (hidden, q_width, width) = (self.spec.hidden, shape.q_width(), shape.kv_width());
        let d_attended = sized(&mut b.d_attended, rows.len() * q_width);
        for piece in self.row_chunks.of(rows.len()) {
            let (n, g) = (piece.len(), [&g[span(&piece, hidden)]]);
            let (layers, group) = ([self.o(index)], lora.o.as_ref());
            let d = &mut d_attended[span(&piece, q_width)];
            linear::input_gradient(layers, group, g, n, (d, &mut b.dh));
            let attended = (&s.attended[span(&piece, q_width)], n);
            linear::factor_gradients(group, attended, g, &b.dh, take(gradients, [Target::O]));
        }
        let dk = sized(&mut b.dk, rows.len() * width);
        let dv = sized(&mut b.dv, rows.len() * width);
        let to = (&rows.slots[..], &mut *dk, &mut *dv);
        attend_backward(&mut s.q, &mut b.kv, d_attended, shape, &rows.plan, to);
        let dq = &mut s.q;
        let norm = self.norm(&self.weights.blocks[index].attention_norm);
        for piece in self.row_chunks.of(rows.len()) {
            let n = piece.len();
            let dq = &mut dq[span(&piece, q_width)];
            let dk = &mut dk[span(&piece, width)];
            rows.rotation.backward(piece.start, dq, heads, head_dim);
            rows.rotation.backward(piece.start, dk, kv_heads, head_dim);
            let (x, g) = (&x[span(&piece, hidden)], &mut g[span(&piece, hidden)]);
            let normed = sized(&mut s.normed, n * hidden);
            norm.forward(x, normed);
            let d_normed = sized(&mut b.d_normed, n * hidden);
            let d = [&*dq, &*dk, &dv[span(&piece, width)]];
            let group = lora.qkv.as_ref();
            linear::input_gradient(self.qkv(index, n), group, d, n, (d_normed, &mut b.dh));
            let factors = take(gradients, [Target::Q, Target::K, Target::V]);
            linear::factor_gradients(group, (normed, n), d, &b.dh, factors);
            norm.backward(x, d_normed, g);
        }
    }
}

/// Borrows the gradients of some targets.
fn take<'a, const N: usize>(
    gradients: &'a mut Gradients<'_>,
    targets: [Target; N],
) -> [Option<FactorGradients<'a>>; N] {
    let mut taken = [const { None }; N];
    for (target, gradient) in Target::ALL.into_iter().zip(gradients) {
        if let Some(i) = targets.iter().position(|t| *t == target) {
            taken[i] = gradient.as_mut().map(FactorGradients::reborrow);
        }
    }
    taken
}
