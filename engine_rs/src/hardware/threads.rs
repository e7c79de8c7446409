//! How many threads to compute with.

use super::cores::Kind;
use super::cpu::Cpu;

/// A number of compute threads and why it is that many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    /// Compute threads.
    pub count: u32,
    /// Why, in a few words for people.
    pub reason: String,
}

/// One thread per fast core that this process may use, at most the quota, less one where there are several.
///
/// Compute threads wait for each other by spinning. One that shares its core with the event loop or with the peer
/// makes all others wait, and on a hybrid processor all wait for the slowest core.
#[must_use]
pub fn compute_threads(cpu: &Cpu) -> Threads {
    let usable = |kind| cpu.kinds.iter().filter(|cores| cores.kind == kind).map(|cores| cores.usable).sum::<u32>();
    let (fast, small) = (usable(Kind::Performance), usable(Kind::Efficiency));
    let (cores, mut words) = match (fast, small) {
        (0, small) => (small, format!("{} that may be used", counted(small, "core"))),
        (fast, 0) => (fast, format!("{} that may be used", counted(fast, "core"))),
        (fast, small) => {
            let left = counted(small, "efficiency core");
            (fast, format!("{} that may be used ({left} left out)", counted(fast, "performance core")))
        }
    };
    let quota = cpu.quota.map_or(u32::MAX, |quota| quota.floor() as u32);
    let room = cores.min(cpu.threads).min(quota).max(1);
    if let Some(limit) = cpu.quota.filter(|_| quota < cores) {
        words = format!("{words}, a quota of {limit:.1} processors");
    }
    if room > 1 {
        words = format!("{words}, one kept free for all else");
    }
    Threads { count: (room - 1).max(1), reason: words }
}

fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::cores::Cores;

    fn machine(kinds: &[(Kind, u32)], quota: Option<f64>) -> Cpu {
        let kinds: Vec<Cores> =
            kinds.iter().map(|&(kind, cores)| Cores { kind, cores, threads: cores * 2, usable: cores }).collect();
        let threads = kinds.iter().map(|kind| kind.threads).sum();
        Cpu { kinds, threads, allowed: threads, quota, ..Cpu::default() }
    }

    fn count(kinds: &[(Kind, u32)], quota: Option<f64>) -> u32 {
        compute_threads(&machine(kinds, quota)).count
    }

    #[test]
    fn one_core_is_kept_free_where_there_are_several() {
        assert_eq!([1, 2, 8].map(|cores| count(&[(Kind::Performance, cores)], None)), [1, 1, 7]);
    }

    #[test]
    fn small_cores_of_a_hybrid_are_left_out() {
        let hybrid = [(Kind::Performance, 6), (Kind::Efficiency, 8)];
        assert_eq!(count(&hybrid, None), 5);
        assert!(compute_threads(&machine(&hybrid, None)).reason.contains("8 efficiency cores left out"));
    }

    #[test]
    fn small_cores_alone_are_used() {
        assert_eq!(count(&[(Kind::Efficiency, 4)], None), 3);
    }

    #[test]
    fn a_quota_is_rounded_down() {
        assert_eq!(
            [0.5, 1.9, 2.0, 3.7, 99.0].map(|quota| count(&[(Kind::Performance, 8)], Some(quota))),
            [1, 1, 1, 2, 7]
        );
        assert!(compute_threads(&machine(&[(Kind::Performance, 8)], Some(3.7))).reason.contains("a quota of 3.7"));
    }

    #[test]
    fn cores_that_may_not_be_used_do_not_count() {
        let mut cpu = machine(&[(Kind::Performance, 8)], None);
        cpu.kinds[0].usable = 3;
        assert_eq!(compute_threads(&cpu).count, 2);
        cpu.kinds[0].usable = 0;
        assert_eq!(compute_threads(&cpu).count, 1);
    }
}
