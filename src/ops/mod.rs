//! Differentiable operations that candle lacks.
