//! The bare `llama_decode` loop, greedy and without a server: what every other number is compared with.
//!
//! Prints one JSON line. Times are seconds of wall clock, rates are tokens per second over all streams.
//!
//! ```text
//! raw_loop --libllama FILE [--cpu-module FILE] --model FILE
//!          [--prompt 128] [--gen 128] [--threads 1] [--streams 1]
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tabagent_engine::context::{Batch, Context, ContextParams, Decoded};
use tabagent_engine::ffi::{Runtime, RuntimeSpec};
use tabagent_engine::model::{Model, ModelParams};

struct Options {
    spec: RuntimeSpec,
    model: PathBuf,
    prompt: u32,
    generate: u32,
    threads: u32,
    streams: u32,
}

/// Tokens of all streams and when the phases ended.
struct Run {
    tokens: Vec<Vec<i32>>,
    started: Instant,
    first_token: Instant,
    prompts_read: Instant,
    finished: Instant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = parse(std::env::args().skip(1))?;
    let opening = Instant::now();
    let runtime = Runtime::open(&options.spec)?;
    let model = Model::load(&runtime, &options.model, &ModelParams::default())?;
    let n_ctx = (options.prompt + options.generate) * options.streams;
    let params = ContextParams {
        n_ctx,
        n_batch: n_ctx.min(2048),
        n_ubatch: 512,
        n_seq_max: options.streams,
        n_threads: options.threads,
        n_threads_batch: options.threads,
        embeddings: false,
    };
    let mut context = Context::new(&model, &params)?;
    if context.n_seq_max() < options.streams {
        return Err("this runtime runs one sequence only".into());
    }
    let load_s = opening.elapsed().as_secs_f64();
    let run = run(&model, &mut context, &options)?;
    let rate = |tokens: u32, seconds: f64| f64::from(tokens * options.streams) / seconds;
    let line = serde_json::json!({
        "libllama": options.spec.libllama,
        "prompt": options.prompt,
        "generate": options.generate,
        "threads": options.threads,
        "streams": options.streams,
        "load_s": load_s,
        "first_token_s": (run.first_token - run.started).as_secs_f64(),
        "prompt_tps": rate(options.prompt, (run.prompts_read - run.started).as_secs_f64()),
        "overall_tps": rate(options.generate, (run.finished - run.started).as_secs_f64()),
        "generate_tps": rate(options.generate - 1, (run.finished - run.prompts_read).as_secs_f64()),
        "tokens": run.tokens,
    });
    #[allow(clippy::print_stdout)]
    {
        println!("{line}");
    }
    Ok(())
}

fn run(model: &Arc<Model>, context: &mut Context, options: &Options) -> Result<Run, Box<dyn Error>> {
    let n_vocab = model.n_vocab() as u32;
    let started = Instant::now();
    let mut first_token = None;
    let mut batch = Batch::with_capacity(context.n_batch() as usize);
    let mut tokens = Vec::new();
    for stream in 0..options.streams {
        for position in 0..options.prompt {
            if batch.len() == context.n_batch() as usize {
                decode(context, &batch)?;
                batch.clear();
            }
            // Any tokens do; each stream gets others.
            let token = (stream * 31 + position * 7 + 3) % n_vocab;
            batch.push(token as i32, position as i32, stream as i32, position + 1 == options.prompt);
        }
        decode(context, &batch)?;
        tokens.push(vec![likeliest(context.logits(batch.len() as i32 - 1)?)]);
        batch.clear();
        first_token.get_or_insert_with(Instant::now);
    }
    let prompts_read = Instant::now();
    for position in options.prompt..options.prompt + options.generate - 1 {
        batch.clear();
        for (stream, tokens) in tokens.iter().enumerate() {
            batch.push(tokens[tokens.len() - 1], position as i32, stream as i32, true);
        }
        decode(context, &batch)?;
        for (index, tokens) in tokens.iter_mut().enumerate() {
            tokens.push(likeliest(context.logits(index as i32)?));
        }
    }
    let first_token = first_token.unwrap_or(prompts_read);
    Ok(Run { tokens, started, first_token, prompts_read, finished: Instant::now() })
}

fn decode(context: &mut Context, batch: &Batch) -> Result<(), Box<dyn Error>> {
    match context.decode(batch)? {
        Decoded::Done => Ok(()),
        other => Err(format!("decode ended as {other:?}").into()),
    }
}

fn likeliest(logits: &[f32]) -> i32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as i32
}

fn parse(args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let args: Vec<String> = args.collect();
    let mut given: HashMap<&str, &str> =
        args.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    if given.len() * 2 != args.len() {
        return Err("each option takes one value and comes once".into());
    }
    let libllama = PathBuf::from(given.remove("--libllama").ok_or("--libllama is missing")?);
    let model = PathBuf::from(given.remove("--model").ok_or("--model is missing")?);
    let cpu_module = given.remove("--cpu-module").map(PathBuf::from);
    let mut number = |name: &str, default: u32| match given.remove(name).map_or(Ok(default), str::parse) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} takes a positive number")),
    };
    let (prompt, generate) = (number("--prompt", 128)?, number("--gen", 128)?);
    let (threads, streams) = (number("--threads", 1)?, number("--streams", 1)?);
    if let Some(unknown) = given.keys().next() {
        return Err(format!("there is no option {unknown}").into());
    }
    let spec = RuntimeSpec {
        id: "explicit".into(),
        libllama,
        cpu_module,
        variant: String::new(),
        version: String::new(),
        reason: "named on the command line".into(),
    };
    Ok(Options { spec, model, prompt, generate, threads, streams })
}
