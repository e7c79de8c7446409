use proptest::prelude::*;

use super::{Sampler, SamplingParams};
use crate::error::EngineError;
use crate::gguf::{fixture::Fixture, inspect_source};

fn sampler(params: &SamplingParams) -> Sampler {
    Sampler::new(params, &SamplingParams::default(), &[], &[])
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: Some(0.0), ..SamplingParams::default() }
}

/// Draws from the logits as they are.
fn plain(seed: u64) -> SamplingParams {
    SamplingParams {
        temperature: Some(1.0),
        top_k: Some(0),
        top_p: Some(1.0),
        min_p: Some(0.0),
        seed: Some(seed),
        ..SamplingParams::default()
    }
}

fn counts(params: &SamplingParams, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = sampler(params);
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(&mut logits.to_vec()).unwrap() as usize] += 1;
    }
    counts
}

fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn slow_argmax(logits: &[f32]) -> i32 {
    let order = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a));
    (0..logits.len()).max_by(order).unwrap() as i32
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    // Few distinct values make ties likely; lengths straddle the block size.
    prop::collection::vec((-20i8..20).prop_map(|value| f32::from(value) / 2.0), 1..300)
}

proptest! {
    #[test]
    fn greedy_takes_the_first_maximum(logits in any_logits()) {
        prop_assert_eq!(sampler(&greedy()).sample(&mut logits.clone()).unwrap(), slow_argmax(&logits));
    }

    #[test]
    fn logits_are_as_they_were_afterwards(logits in any_logits(), token in 0i32..300, bias in -5f32..5.0) {
        let params = SamplingParams { logit_bias: vec![(token, bias), (token, bias)], repeat_penalty: Some(1.3), ..greedy() };
        let mut given = logits.clone();
        let history = [token, 0, 1, token];
        Sampler::new(&params, &SamplingParams::default(), &[0], &history).sample(&mut given).unwrap();
        prop_assert_eq!(given, logits);
    }

    #[test]
    fn top_k_of_one_is_greedy(logits in any_logits(), seed: u64) {
        let params = SamplingParams { top_k: Some(1), seed: Some(seed), ..SamplingParams::default() };
        prop_assert_eq!(sampler(&params).sample(&mut logits.clone()).unwrap(), slow_argmax(&logits));
    }

    #[test]
    fn a_nucleus_of_nothing_is_greedy(logits in any_logits(), seed: u64, top_k in 0u32..50) {
        let params = SamplingParams { top_k: Some(top_k), top_p: Some(0.0), seed: Some(seed), ..SamplingParams::default() };
        prop_assert_eq!(sampler(&params).sample(&mut logits.clone()).unwrap(), slow_argmax(&logits));
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens(logits in any_logits(), seed: u64) {
        let draw = || {
            let mut sampler = sampler(&plain(seed));
            (0..20).map(|_| sampler.sample(&mut logits.clone()).unwrap()).collect::<Vec<_>>()
        };
        prop_assert_eq!(draw(), draw());
    }

    #[test]
    fn top_k_draws_only_from_the_k_likeliest(logits in any_logits(), seed: u64, top_k in 1u32..80) {
        let params = SamplingParams { top_k: Some(top_k), top_p: Some(1.0), min_p: Some(0.0), ..plain(seed) };
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        order.truncate(top_k as usize);
        let token = sampler(&params).sample(&mut logits.clone()).unwrap() as usize;
        prop_assert!(order.contains(&token));
    }

    #[test]
    fn logprobs_are_a_log_softmax_in_order(logits in any_logits(), count in 0usize..40) {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let exact = |token: i32| f64::from(logits[token as usize]) - sum.ln();
        let token = logits.len() as i32 / 2;
        let logprobs = sampler(&greedy()).logprobs(&logits, token, count).unwrap();
        prop_assert!((f64::from(logprobs.chosen) - exact(token)).abs() < 1e-4);
        prop_assert_eq!(logprobs.top.len(), count.min(logits.len()));
        for pair in logprobs.top.windows(2) {
            prop_assert!((pair[1].1, pair[0].0) < (pair[0].1, pair[1].0) || pair[0].1 > pair[1].1);
        }
        for (token, logprob) in logprobs.top {
            prop_assert!((f64::from(logprob) - exact(token)).abs() < 1e-4);
        }
    }
}

#[test]
fn draws_follow_the_distribution() {
    let probabilities = [0.5, 0.25, 0.15, 0.07, 0.03];
    let draws = 20_000;
    let counts = counts(&plain(7), &logits_of(&probabilities), draws);
    let chi_square: f64 = counts
        .iter()
        .zip(probabilities)
        .map(|(count, p)| {
            let expected = f64::from(p) * draws as f64;
            (*count as f64 - expected).powi(2) / expected
        })
        .sum();
    // The 99.9 % point for four degrees of freedom.
    assert!(chi_square < 18.47, "{counts:?}: {chi_square}");
}

#[test]
fn temperature_sharpens_the_distribution() {
    let logits = logits_of(&[0.6, 0.4]);
    let share = |temperature| {
        let params = SamplingParams { temperature: Some(temperature), ..plain(3) };
        counts(&params, &logits, 10_000)[0]
    };
    // At temperature 1/2 the odds are squared: 0.36 to 0.16.
    assert!((6850..7000).contains(&share(0.5)), "{}", share(0.5));
    assert!((5900..6100).contains(&share(1.0)), "{}", share(1.0));
}

#[test]
fn top_p_keeps_the_token_that_crosses_the_line_and_none_after_it() {
    let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
    for top_k in [0, 3] {
        let params = SamplingParams { top_p: Some(0.6), top_k: Some(top_k), ..plain(5) };
        let counts = counts(&params, &logits, 2_000);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0 && counts[3] == 0, "{counts:?}");
    }
}

#[test]
fn top_p_widens_its_view_on_a_flat_distribution() {
    let logits = vec![0.0; 5_000];
    let params = SamplingParams { top_p: Some(0.9), ..plain(1) };
    let mut sampler = sampler(&params);
    let drawn: Vec<i32> = (0..2_000).map(|_| sampler.sample(&mut logits.clone()).unwrap()).collect();
    assert!(drawn.iter().any(|token| *token > 4_000) && drawn.iter().all(|token| *token < 4_510));
}

#[test]
fn min_p_is_measured_against_the_likeliest() {
    let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
    for top_k in [0, 4, 3] {
        let params = SamplingParams { min_p: Some(0.4), top_k: Some(top_k), ..plain(5) };
        let counts = counts(&params, &logits, 2_000);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0 && counts[3] == 0, "{counts:?}");
    }
}

#[test]
fn bias_is_added_before_anything_else() {
    let params = SamplingParams { logit_bias: vec![(2, 10.0), (0, f32::NEG_INFINITY)], ..greedy() };
    assert_eq!(sampler(&params).sample(&mut [3.0, 2.0, 1.0]).unwrap(), 2);
}

#[test]
fn penalties_look_at_the_prompt_and_at_what_was_produced() {
    let params = SamplingParams { repeat_penalty: Some(4.0), ..greedy() };
    let mut sampler = Sampler::new(&params, &SamplingParams::default(), &[], &[0]);
    let logits = [3.0, 2.0, 1.0];
    let drawn: Vec<i32> = (0..3).map(|_| sampler.sample(&mut logits.clone()).unwrap()).collect();
    assert_eq!(drawn, [1, 2, 0]);
}

#[test]
fn penalties_forget_what_lies_behind_the_window() {
    let params = SamplingParams { presence_penalty: Some(10.0), ..greedy() };
    let mut history = vec![0];
    history.extend([1; 64]);
    let mut sampler = Sampler::new(&params, &SamplingParams::default(), &[], &history);
    assert_eq!(sampler.sample(&mut [1.0, 2.0]).unwrap(), 0);
}

#[test]
fn frequency_counts_and_presence_does_not() {
    let history = [0, 0, 1];
    let once = |params: SamplingParams| {
        Sampler::new(&params, &SamplingParams::default(), &[], &history).sample(&mut [2.5, 2.0]).unwrap()
    };
    assert_eq!(once(SamplingParams { presence_penalty: Some(1.0), ..greedy() }), 0);
    assert_eq!(once(SamplingParams { frequency_penalty: Some(1.0), ..greedy() }), 1);
}

#[test]
fn ignore_eos_forbids_the_end_tokens() {
    let params = SamplingParams { ignore_eos: true, ..greedy() };
    let mut sampler = Sampler::new(&params, &SamplingParams::default(), &[0, 1], &[]);
    assert_eq!(sampler.sample(&mut [3.0, 2.0, 1.0]).unwrap(), 2);
}

#[test]
fn logits_that_are_no_numbers_fail_the_decode() {
    for params in [greedy(), plain(1), SamplingParams { top_p: Some(0.5), ..plain(1) }, SamplingParams::default()] {
        for bad in [f32::NAN, f32::INFINITY] {
            for place in [0, 70, 99] {
                let mut logits = vec![0.0; 100];
                logits[place] = bad;
                let outcome = sampler(&params).sample(&mut logits.clone());
                assert!(matches!(outcome, Err(EngineError::DecodeFailed(_))));
            }
        }
        assert!(matches!(sampler(&params).sample(&mut [f32::NEG_INFINITY; 3]), Err(EngineError::DecodeFailed(_))));
        assert!(matches!(sampler(&params).sample(&mut []), Err(EngineError::DecodeFailed(_))));
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let default = SamplingParams::default;
    let bad = [
        ("temperature", SamplingParams { temperature: Some(-0.1), ..default() }),
        ("temperature", SamplingParams { temperature: Some(f32::NAN), ..default() }),
        ("temperature", SamplingParams { temperature: Some(f32::INFINITY), ..default() }),
        ("top_p", SamplingParams { top_p: Some(1.1), ..default() }),
        ("min_p", SamplingParams { min_p: Some(-1.0), ..default() }),
        ("repeat_penalty", SamplingParams { repeat_penalty: Some(0.0), ..default() }),
        ("presence_penalty", SamplingParams { presence_penalty: Some(f32::NAN), ..default() }),
        ("frequency_penalty", SamplingParams { frequency_penalty: Some(f32::NEG_INFINITY), ..default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(10, 0.0)], ..default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(-1, 0.0)], ..default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(0, f32::NAN)], ..default() }),
    ];
    for (param, params) in bad {
        let error = params.validate(10).unwrap_err();
        assert_eq!((error.code(), error.param()), ("invalid_parameter", Some(param)));
    }
    default().validate(10).unwrap();
    plain(1).validate(10).unwrap();
}

#[test]
fn a_model_recommends_what_a_request_leaves_out() {
    let mut fixture = Fixture::model(&[]);
    fixture.set_f32("general.sampling.temp", 0.0).set_u32("general.sampling.top_k", 7);
    fixture.set_f32("general.sampling.top_p", f32::NAN).set_f32("general.sampling.min_p", 2.0);
    let bytes = fixture.bytes();
    let len = bytes.len() as u64;
    let summary = inspect_source(std::io::Cursor::new(bytes), len).unwrap();
    let recommended = SamplingParams::recommended(&summary.metadata);
    let expected = SamplingParams { temperature: Some(0.0), top_k: Some(7), ..SamplingParams::default() };
    assert_eq!(recommended, expected);
    let mut sampler = Sampler::new(&SamplingParams::default(), &recommended, &[], &[]);
    assert!((0..50).all(|_| sampler.sample(&mut [1.0, 1.1, 1.0]).unwrap() == 1));
}

#[test]
fn an_absent_seed_is_drawn_and_a_given_one_is_reported() {
    assert_eq!(sampler(&plain(42)).seed(), 42);
    let drawn: std::collections::HashSet<u64> = (0..20).map(|_| sampler(&SamplingParams::default()).seed()).collect();
    assert!(drawn.len() > 1);
}
