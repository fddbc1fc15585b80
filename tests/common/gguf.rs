//! Writes small GGUF files for tests, valid or broken on purpose.
//!
//! Shares no code with the reader, so that the two can disagree.

/// The number of a metadata type in the file.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

struct Tensor {
    name: String,
    dims: Vec<u64>,
    ggml_type: u32,
    data: Vec<u8>,
}

/// A GGUF file in the making. `build` lays it out.
pub struct GgufBytes {
    pub version: u32,
    pub alignment: usize,
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<Tensor>,
}

impl GgufBytes {
    pub fn new() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new() }
    }

    /// A key with its value as raw bytes: type number first.
    pub fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(value);
        self.keys.push((key.into(), bytes));
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, U32, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, F32, &value.to_le_bytes())
    }

    pub fn bool(self, key: &str, value: bool) -> Self {
        self.raw(key, BOOL, &[u8::from(value)])
    }

    pub fn str(self, key: &str, value: &str) -> Self {
        self.raw(key, STRING, &string(value))
    }

    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let body: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, I32, values.len(), &body)
    }

    pub fn strings<S: AsRef<str>>(self, key: &str, values: &[S]) -> Self {
        let body: Vec<u8> = values.iter().flat_map(|v| string(v.as_ref())).collect();
        self.array(key, STRING, values.len(), &body)
    }

    /// An array with a length that may lie.
    pub fn array(self, key: &str, element: u32, len: usize, body: &[u8]) -> Self {
        let mut bytes = element.to_le_bytes().to_vec();
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(body);
        self.raw(key, ARRAY, &bytes)
    }

    /// Forgets a key, so that another value can take its place.
    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self
    }

    /// Forgets a tensor.
    pub fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|t| t.name != name);
        self
    }

    /// A tensor with its data as raw bytes; `dims` in the file's order, fastest first.
    pub fn tensor(mut self, name: &str, dims: &[u64], ggml_type: u32, data: Vec<u8>) -> Self {
        self.tensors.push(Tensor { name: name.into(), dims: dims.into(), ggml_type, data });
        self
    }

    /// A tensor of small pseudo-random weights in F32 (0), Q4_1 (3) or Q8_0 (8).
    pub fn weights(self, name: &str, dims: &[u64], ggml_type: u32) -> Self {
        let n: u64 = dims.iter().product();
        let mut noise = Noise(name.bytes().fold(1, |h: u64, b| h.wrapping_mul(31) + u64::from(b)));
        let data = match ggml_type {
            0 => (0..n).flat_map(|_| (f32::from(noise.byte()) / 1024.0).to_le_bytes()).collect(),
            3 => (0..n / 32)
                .flat_map(|_| {
                    let mut block = vec![0x00, 0x20, 0x00, 0xA8]; // d = 2^-7, m = -2^-5
                    block.extend((0..16).map(|_| noise.byte()));
                    block
                })
                .collect(),
            8 => (0..n / 32)
                .flat_map(|_| {
                    let mut block = vec![0x00, 0x10]; // d = 2^-11
                    block.extend((0..32).map(|_| noise.byte()));
                    block
                })
                .collect(),
            other => panic!("no weights of type {other} here"),
        };
        self.tensor(name, dims, ggml_type, data)
    }

    /// The file: header, then every tensor's data at its aligned offset.
    pub fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(string(key));
            out.extend(value);
        }
        let mut data = Vec::new();
        for t in &self.tensors {
            pad(&mut data, self.alignment);
            out.extend(string(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(t.ggml_type.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&t.data);
        }
        pad(&mut out, self.alignment);
        out.extend(data);
        out
    }
}

fn string(s: &str) -> Vec<u8> {
    let mut out = (s.len() as u64).to_le_bytes().to_vec();
    out.extend(s.as_bytes());
    out
}

fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

/// A small linear congruential generator (Knuth's MMIX constants).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }
}

/// A valid llama model of two layers with random weights: hidden 64, ffn 96, 4 heads, 2 of them
/// for keys and values, 40 tokens, tied embeddings; Q8_0 embedding, Q4_1 matrices, F32 norms.
pub fn small_llama() -> GgufBytes {
    small("llama", 3)
}

/// The same as a qwen2 model: with biases on q, k and v, and a head of its own.
pub fn small_qwen2() -> GgufBytes {
    with_biases(small("qwen2", 3)).weights("output.weight", &[64, 40], 8)
}

/// A model of a family with all weights in F32, so that whoever reads it computes with the same
/// numbers.
pub fn small_in_f32(family: &str) -> GgufBytes {
    match family {
        "qwen2" => with_biases(small(family, 0)).weights("output.weight", &[64, 40], 0),
        _ => small(family, 0),
    }
}

fn with_biases(mut g: GgufBytes) -> GgufBytes {
    for i in 0..2 {
        for (target, width) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32)] {
            g = g.weights(&format!("blk.{i}.{target}.bias"), &[width], 0);
        }
    }
    g
}

/// A small model of a family, its matrices in a type.
fn small(family: &str, kind: u32) -> GgufBytes {
    let key = |name: &str| format!("{family}.{name}");
    let embedding = if kind == 0 { 0 } else { 8 };
    let tokens: Vec<String> =
        (0..40u8).map(|i| if i < 38 { (b'A' + i).into() } else { i.into() }).map(token).collect();
    let mut g = GgufBytes::new()
        .str("general.architecture", family)
        .str("general.name", "small test model")
        .u32(&key("block_count"), 2)
        .u32(&key("context_length"), 256)
        .u32(&key("embedding_length"), 64)
        .u32(&key("feed_forward_length"), 96)
        .u32(&key("attention.head_count"), 4)
        .u32(&key("attention.head_count_kv"), 2)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("rope.freq_base"), 10_000.0)
        .u32(&key("rope.dimension_count"), 16)
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &[[1; 38].as_slice(), &[3; 2]].concat())
        .strings::<&str>("tokenizer.ggml.merges", &[])
        .u32("tokenizer.ggml.bos_token_id", 38)
        .u32("tokenizer.ggml.eos_token_id", 39)
        .bool("tokenizer.ggml.add_bos_token", false)
        .weights("token_embd.weight", &[64, 40], embedding)
        .weights("output_norm.weight", &[64], 0);
    for i in 0..2 {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        g = g
            .weights(&name("attn_norm"), &[64], 0)
            .weights(&name("attn_q"), &[64, 64], kind)
            .weights(&name("attn_k"), &[64, 32], kind)
            .weights(&name("attn_v"), &[64, 32], kind)
            .weights(&name("attn_output"), &[64, 64], kind)
            .weights(&name("ffn_norm"), &[64], 0)
            .weights(&name("ffn_gate"), &[64, 96], kind)
            .weights(&name("ffn_up"), &[64, 96], kind)
            .weights(&name("ffn_down"), &[96, 64], kind);
    }
    g
}

fn token(c: char) -> String {
    match c as u32 {
        38 => "<|im_start|>".into(),
        39 => "<|im_end|>".into(),
        _ => c.to_string(),
    }
}
