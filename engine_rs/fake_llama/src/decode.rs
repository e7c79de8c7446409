//! `llama_decode`: what the real one checks, then tokens into cells and scripted logits out.

use crate::cache::Positions;
use crate::gguf::N_EMBD;
use crate::log::error;
use crate::params::Entry;
use crate::sessions::{Context, Model};

const OK: i32 = 0;
const NO_SPACE: i32 = 1;
const ABORTED: i32 = 2;
const INVALID_BATCH: i32 = -1;
const COMPUTE_FAILED: i32 = -3;

/// Logit of the scripted token; all others lie at 0 and a little below, lower ids first.
const LOGIT: f32 = 16.0;

pub(crate) fn decode(context: &mut Context, model: &Model, batch: &[Entry]) -> i32 {
    assert!(batch.len() <= context.n_batch as usize, "GGML_ASSERT(n_tokens_all <= cparams.n_batch) failed");
    context.outputs = vec![None; batch.len()];
    count(model, batch);
    if let Err(reason) = check(context, model, batch) {
        error(&format!("decode: invalid batch: {reason}\n"));
        return INVALID_BATCH;
    }
    let sequences: Vec<i32> = batch.iter().map(|entry| entry.sequence).collect();
    if !context.cache.has_room(&sequences) {
        return NO_SPACE;
    }
    for (start, part) in batch.chunks(context.n_ubatch as usize).enumerate() {
        if !model.watch.step(|| context.is_aborted()) {
            return ABORTED;
        }
        let start = start * context.n_ubatch as usize;
        for (index, entry) in part.iter().enumerate() {
            context.cache.push(entry.token, entry.position, entry.sequence);
            if entry.output {
                context.outputs[start + index] = Some(output(context, model, entry));
            }
        }
        if part.iter().any(|entry| fails(context, model, part, entry)) {
            part.iter().for_each(|entry| context.cache.remove(entry.sequence, Positions(entry.position, -1)));
            error("decode: failed to compute graph, compute status: -1\n");
            return COMPUTE_FAILED;
        }
    }
    OK
}

fn count(model: &Model, batch: &[Entry]) {
    let mut sequences: Vec<i32> = batch.iter().map(|entry| entry.sequence).collect();
    sequences.sort_unstable();
    sequences.dedup();
    model.watch.count(|counts| {
        counts.decodes += 1;
        counts.widest_decode = counts.widest_decode.max(sequences.len() as u32);
    });
}

fn check(context: &Context, model: &Model, batch: &[Entry]) -> Result<(), String> {
    if batch.is_empty() {
        return Err("no tokens".into());
    }
    for (index, entry) in batch.iter().enumerate() {
        if !model.vocabulary.has(entry.token) {
            return Err(format!("token {}", entry.token));
        }
        if !(0..context.n_seq_max as i32).contains(&entry.sequence) {
            return Err(format!("sequence {}", entry.sequence));
        }
        let before = batch[..index].iter().rev().find(|other| other.sequence == entry.sequence);
        let last = before.map_or(context.cache.last_position(entry.sequence), |other| other.position);
        if entry.position != last + 1 {
            return Err(format!("sequence {} goes from {last} to {}", entry.sequence, entry.position));
        }
    }
    Ok(())
}

fn output(context: &Context, model: &Model, entry: &Entry) -> Vec<f32> {
    let history = context.cache.history(entry.sequence);
    if context.embeddings {
        let mut counts = vec![0.0; N_EMBD as usize];
        model.vocabulary.spell(&history).iter().for_each(|byte| counts[usize::from(*byte) % N_EMBD as usize] += 1.0);
        return counts;
    }
    let mut logits: Vec<f32> = (0..model.vocabulary.len()).map(|token| token as f32 / -1024.0).collect();
    logits[model.script.next(&model.vocabulary, &history) as usize] = LOGIT;
    logits
}

fn fails(context: &Context, model: &Model, part: &[Entry], entry: &Entry) -> bool {
    let added = part.iter().filter(|other| other.sequence == entry.sequence).count();
    model.script.fails(&model.vocabulary, &context.cache.history(entry.sequence), added)
}
