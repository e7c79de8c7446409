//! Trees of files stand for the kernels of other machines.

use super::*;
use crate::hardware::cgroup::tests::tree;

fn kernel(threads: &[(u32, &str, Option<u32>)], more: &[(&str, &str)]) -> tempfile::TempDir {
    let mut files: Vec<(String, String)> = more.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    files.push(("sys/devices/system/cpu/online".into(), format!("0-{}\n", threads.len() - 1)));
    for (id, siblings, capacity) in threads {
        let folder = format!("sys/devices/system/cpu/cpu{id}");
        files.push((format!("{folder}/topology/core_cpus_list"), format!("{siblings}\n")));
        files.extend(capacity.map(|capacity| (format!("{folder}/cpu_capacity"), format!("{capacity}\n"))));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    tree(&files)
}

fn cores(kind: Kind, cores: u32, threads: u32, usable: u32) -> Cores {
    Cores { kind, cores, threads, usable }
}

#[test]
fn hardware_threads_of_one_core_are_one_core() {
    let root = kernel(&[(0, "0,2", None), (1, "1,3", None), (2, "0,2", None), (3, "1,3", None)], &[]);
    assert_eq!(linux::detect(root.path()), [cores(Kind::Performance, 2, 4, 2)]);
}

#[test]
fn a_hybrid_processor_has_two_kinds() {
    let threads = [(0, "0-1", None), (1, "0-1", None), (2, "2", None), (3, "3", None), (4, "4", None)];
    let root = kernel(
        &threads,
        &[
            ("sys/devices/cpu_core/cpus", "0-1\n"),
            ("sys/devices/cpu_atom/cpus", "2-3\n"),
            ("sys/devices/cpu_lowpower/cpus", "4\n"),
        ],
    );
    assert_eq!(linux::detect(root.path()), [cores(Kind::Performance, 1, 2, 1), cores(Kind::Efficiency, 3, 3, 3)]);
}

#[test]
fn arm_cores_are_told_apart_by_their_capacity() {
    let threads = [(0, "0", Some(325)), (1, "1", Some(325)), (2, "2", Some(870)), (3, "3", Some(1024))];
    let root = kernel(&threads, &[]);
    assert_eq!(linux::detect(root.path()), [cores(Kind::Performance, 2, 2, 2), cores(Kind::Efficiency, 2, 2, 2)]);
}

#[test]
fn equal_capacities_are_one_kind() {
    let root = kernel(&[(0, "0", Some(1024)), (1, "1", Some(1024))], &[]);
    assert_eq!(linux::detect(root.path()), [cores(Kind::Performance, 2, 2, 2)]);
}

#[test]
fn only_allowed_cores_are_usable() {
    let threads = [(0, "0-1", None), (1, "0-1", None), (2, "2-3", None), (3, "2-3", None)];
    let root = kernel(&threads, &[("proc/self/status", "Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n")]);
    assert_eq!(linux::detect(root.path()), [cores(Kind::Performance, 2, 4, 1)]);
}

#[test]
fn a_kernel_that_tells_nothing_leaves_the_counts_of_the_machine() {
    assert_eq!(linux::detect(std::path::Path::new("/nowhere")), []);
    assert_eq!(uniform(4, 8, 2), [cores(Kind::Performance, 4, 8, 2)]);
}
