//! What architectures demand of their attention heads: the library asserts it while it builds the graph.

/// Architectures whose keys and values are equally wide, and which rotate whole heads if they rotate any.
const WHOLE_ROTATION: [&str; 62] = [
    "apertus",
    "arcee",
    "arctic",
    "baichuan",
    "chameleon",
    "codeshell",
    "cogvlm",
    "cohere2moe",
    "dbrx",
    "deci",
    "deepseek",
    "dots1",
    "dream",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "exaone-moe",
    "exaone4",
    "falcon",
    "granite",
    "granite_swa",
    "granitemoe",
    "graniteswitch",
    "grok",
    "grovemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "hunyuan_vl",
    "hy_v3",
    "internlm2",
    "jais2",
    "llada",
    "llada-moe",
    "llama",
    "llama-embed",
    "llama4",
    "maincoder",
    "mellum",
    "minicpm",
    "mistral3",
    "olmo",
    "olmo2",
    "olmoe",
    "orion",
    "paddleocr",
    "pangu-embedded",
    "plamo",
    "pockettts",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "rnd1",
    "seed_oss",
    "smallthinker",
    "smollm3",
    "starcoder2",
    "talkie",
    "xverse",
];
/// Architectures whose keys and values are equally wide.
const EQUAL_WIDTHS: [&str; 43] = [
    "afmoe",
    "bailingmoe2",
    "bitnet",
    "bitnet-25",
    "bitnet-b1.58",
    "bloom",
    "chatglm",
    "cohere2",
    "command-r",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "glm4",
    "glm4moe",
    "gpt2",
    "gptj",
    "gptneox",
    "granitehybrid",
    "jais",
    "laguna",
    "minimax-01",
    "minimax-m2",
    "minimax-m3",
    "mpt",
    "muse-glimmer",
    "nanbeige",
    "nemotron",
    "nemotron_h",
    "nemotron_h_moe",
    "openelm",
    "phi2",
    "phi3",
    "phimoe",
    "qwen",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "qwen4exp",
    "refact",
    "spark2_5",
    "stablelm",
    "starcoder",
];

/// Architectures that need not rotate. In others, 0 dimensions to rotate make an endless loop.
const UNROTATED: [&str; 10] =
    ["bloom", "gpt2", "granitehybrid", "jais", "jamba", "mpt", "nemotron_h", "nemotron_h_moe", "refact", "starcoder"];

/// Why heads of these widths do not work in this architecture; `None` when they do or nobody knows.
pub(super) fn problem(architecture: &str, key: u32, value: u32, rotated: Option<u32>) -> Option<String> {
    let whole = WHOLE_ROTATION.contains(&architecture);
    let rotated = rotated.unwrap_or(key);
    if (whole || EQUAL_WIDTHS.contains(&architecture)) && key != value {
        return Some(format!("{architecture} with keys of width {key} and values of width {value}"));
    }
    if whole && rotated != key
        || rotated > key
        || !rotated.is_multiple_of(2)
        || rotated == 0 && !UNROTATED.contains(&architecture)
    {
        return Some(format!("{architecture} that rotates {rotated} dimensions of keys of width {key}"));
    }
    None
}
