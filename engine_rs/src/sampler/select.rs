//! Single passes over a vocabulary of logits, written so that the compiler vectorises them.

/// Logits looked at together; a block without a new best costs no branch per logit.
const BLOCK: usize = 64;
const LANES: usize = 16;

/// One token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub token: i32,
    pub logit: f32,
    /// Unnormalised probability, set when drawing.
    pub weight: f64,
}

impl Candidate {
    fn new(token: usize, logit: f32) -> Self {
        Self { token: token as i32, logit, weight: 0.0 }
    }

    /// Likelier first; of equals the lower id.
    fn order(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
    }
}

/// The largest of a block, or `None` if it holds a NaN.
#[inline]
fn block_max(block: &[f32]) -> Option<f32> {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    let (lanes, rest) = block.as_chunks::<LANES>();
    for values in lanes {
        for lane in 0..LANES {
            max[lane] = if values[lane] > max[lane] { values[lane] } else { max[lane] };
            nan[lane] |= u32::from(values[lane].is_nan());
        }
    }
    let rest_is_nan = rest.iter().any(|value| value.is_nan());
    let best = max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    (!rest_is_nan && nan.iter().all(|nan| *nan == 0)).then_some(best)
}

/// The likeliest token and its logit; of equals the lowest id. `None` if there is no finite maximum or any NaN.
pub(super) fn argmax(logits: &[f32]) -> Option<(i32, f32)> {
    let mut best = f32::NEG_INFINITY;
    let mut best_block = 0;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let max = block_max(block)?;
        if max > best {
            best = max;
            best_block = index;
        }
    }
    if !best.is_finite() {
        return None;
    }
    let start = best_block * BLOCK;
    #[allow(clippy::float_cmp, reason = "the maximum is one of these very values")]
    let place = logits[start..].iter().position(|logit| *logit == best)?;
    Some(((start + place) as i32, best))
}

/// Fills `into` with the `count` likeliest tokens, best first. `None` as for [`argmax`].
pub(super) fn likeliest(logits: &[f32], count: usize, into: &mut Vec<Candidate>) -> Option<()> {
    into.clear();
    let count = count.min(logits.len());
    let mut best = f32::NEG_INFINITY;
    let mut threshold = f32::NEG_INFINITY;
    let room = (2 * count).max(BLOCK);
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let max = block_max(block)?;
        best = best.max(max);
        if max <= threshold && into.len() >= count {
            continue;
        }
        for (place, logit) in block.iter().enumerate() {
            // Equals with a higher id lose against those already there.
            if *logit > threshold || into.len() < count {
                into.push(Candidate::new(index * BLOCK + place, *logit));
            }
        }
        if into.len() >= room && count > 0 {
            keep_best(into, count);
            threshold = into[count - 1].logit;
        }
    }
    if count > 0 {
        keep_best(into, count);
    } else {
        into.clear();
    }
    into.sort_unstable_by(Candidate::order);
    best.is_finite().then_some(())
}

/// Moves the best `count` to the front, the worst of them last, and drops the others.
fn keep_best(candidates: &mut Vec<Candidate>, count: usize) {
    if candidates.len() > count {
        candidates.select_nth_unstable_by(count - 1, Candidate::order);
        candidates.truncate(count);
    }
}

/// All tokens whose logit is at least `floor`, in order of id.
pub(super) fn at_least(logits: &[f32], floor: f32) -> impl Iterator<Item = Candidate> {
    let kept = logits.iter().enumerate().filter(move |(_, logit)| **logit >= floor);
    kept.map(|(token, logit)| Candidate::new(token, *logit))
}

/// Sum of `exp(logit - max)`, with a relative error below 1e-5.
pub(super) fn exp_sum(logits: &[f32], max: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (lanes, rest) = logits.as_chunks::<LANES>();
    for values in lanes {
        for lane in 0..LANES {
            sums[lane] += exp_of_negative(values[lane] - max);
        }
    }
    let rest: f64 = rest.iter().map(|value| f64::from(exp_of_negative(value - max))).sum();
    (sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + rest) as f32
}

/// `exp(x)` for x ≤ 0 without branches or calls, so that it vectorises: 2^n from the exponent bits times a polynomial.
#[inline]
fn exp_of_negative(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    /// Adding it rounds to an integer and leaves that integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > LOWEST { x } else { LOWEST };
    let scaled = x * std::f32::consts::LOG2_E;
    let shifted = scaled + ROUND;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    let t = (scaled - (shifted - ROUND)) * std::f32::consts::LN_2;
    // Taylor's series on |t| ≤ ln 2 / 2.
    power * (1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0))))))
}
