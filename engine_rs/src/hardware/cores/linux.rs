//! Cores as the Linux kernel lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Cores, Kind};

/// The kernel's lists of small cores on Intel's hybrids.
const SMALL: [&str; 2] = ["sys/devices/cpu_atom/cpus", "sys/devices/cpu_lowpower/cpus"];

/// A hardware thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thread {
    id: u32,
    /// Number of its core's first hardware thread.
    core: u32,
    kind: Kind,
}

/// Counts cores by kind; threads with numbers in `allowed` may be used, all of them if it is `None`.
fn count(threads: &[Thread], allowed: Option<&BTreeSet<u32>>) -> Vec<Cores> {
    let mut kinds: BTreeMap<Kind, Vec<&Thread>> = BTreeMap::new();
    for thread in threads {
        kinds.entry(thread.kind).or_default().push(thread);
    }
    let distinct =
        |threads: &mut dyn Iterator<Item = &Thread>| threads.map(|thread| thread.core).collect::<BTreeSet<_>>().len();
    kinds
        .into_iter()
        .map(|(kind, threads)| Cores {
            kind,
            cores: distinct(&mut threads.iter().copied()) as u32,
            threads: threads.len() as u32,
            usable: distinct(
                &mut threads
                    .iter()
                    .copied()
                    .filter(|thread| allowed.is_none_or(|allowed| allowed.contains(&thread.id))),
            ) as u32,
        })
        .collect()
}

pub fn detect(root: &Path) -> Vec<Cores> {
    count(&threads(root), allowed(root).as_ref())
}

pub fn allowed(root: &Path) -> Option<BTreeSet<u32>> {
    let status = std::fs::read_to_string(root.join("proc/self/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(parse_list(list))
}

fn threads(root: &Path) -> Vec<Thread> {
    let folder = root.join("sys/devices/system/cpu");
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let online = read(&folder.join("online")).map(|list| parse_list(&list)).unwrap_or_default();
    let small: BTreeSet<u32> =
        SMALL.iter().filter_map(|list| read(&root.join(list))).flat_map(|list| parse_list(&list)).collect();
    let capacity = |id: u32| read(&folder.join(format!("cpu{id}/cpu_capacity")))?.trim().parse::<u32>().ok();
    let largest = online.iter().filter_map(|id| capacity(*id)).max();
    online
        .iter()
        .map(|&id| {
            let topology = folder.join(format!("cpu{id}/topology"));
            let siblings = read(&topology.join("core_cpus_list"))
                .or_else(|| read(&topology.join("thread_siblings_list")))
                .map(|list| parse_list(&list));
            // Arm's designs have up to three kinds; a middle one has more than half of the largest one's capacity.
            let weak = capacity(id).zip(largest).is_some_and(|(own, largest)| own * 2 <= largest);
            let kind = if small.contains(&id) || weak { Kind::Efficiency } else { Kind::Performance };
            Thread { id, core: siblings.and_then(|list| list.first().copied()).unwrap_or(id), kind }
        })
        .collect()
}

/// Numbers as the kernel lists them: `0-3,8`.
fn parse_list(text: &str) -> BTreeSet<u32> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?)
        })
        .flatten()
        .collect()
}
