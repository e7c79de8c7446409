//! What control groups leave to this process, in versions 1 and 2: processor time and memory.

use std::path::{Path, PathBuf};

/// Limits of the group that this process is in and of all groups around it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processor time per time, e.g. 1.5 processors; `None` without a quota.
    pub quota: Option<f64>,
    /// Memory; `None` without a limit.
    pub memory: Option<MemoryLimit>,
}

/// A limit on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Most bytes the tightest group may use.
    pub limit: u64,
    /// Bytes that can still be had: what is used is counted without the page cache of files, which gives way.
    pub available: u64,
}

/// Reads the limits under `root`, which is `/` but for tests. Without control groups there are none.
#[must_use]
pub fn read(root: &Path) -> Limits {
    let groups = |controller| Groups::find(root, controller).map(|groups| groups.folders()).unwrap_or_default();
    let quotas = groups("cpu").iter().filter_map(|folder| quota(folder)).collect::<Vec<_>>();
    let memory = groups("memory").iter().filter_map(|folder| memory(folder)).collect::<Vec<_>>();
    Limits {
        quota: quotas.into_iter().reduce(f64::min),
        memory: memory.into_iter().reduce(|one, other| MemoryLimit {
            limit: one.limit.min(other.limit),
            available: one.available.min(other.available),
        }),
    }
}

/// Where a controller's files lie for this process.
struct Groups {
    mount: PathBuf,
    own: PathBuf,
}

impl Groups {
    fn find(root: &Path, controller: &str) -> Option<Self> {
        let memberships = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let membership = |wanted: &str| {
            memberships.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                controllers.split(',').any(|one| one == wanted).then_some(path)
            })
        };
        let mounted = |wanted: &dyn Fn(&str, &str) -> bool| {
            mounts.lines().filter_map(mount).find(|one| wanted(one.kind, one.options))
        };
        // A controller is either in a tree of its own (version 1) or in the unified one (version 2).
        let first = mounted(&|kind, options| kind == "cgroup" && options.split(',').any(|one| one == controller))
            .zip(membership(controller));
        let (mount, path) = first.or_else(|| mounted(&|kind, _| kind == "cgroup2").zip(membership("")))?;
        let inside = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let mount = root.join(mount.point.trim_start_matches('/'));
        // A group outside of the mounted part is none that could be read.
        let own = if inside.starts_with("..") {
            mount.clone()
        } else {
            mount.join(inside.strip_prefix("/").unwrap_or(inside))
        };
        Some(Self { mount, own })
    }

    /// The own group's folder and those around it.
    fn folders(&self) -> Vec<PathBuf> {
        self.own.ancestors().take_while(|folder| folder.starts_with(&self.mount)).map(Path::to_path_buf).collect()
    }
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (place, rest) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let mut rest = rest.split(' ');
    Some(Mount { root: place.next()?, point: place.next()?, kind: rest.next()?, options: rest.nth(1)? })
}

fn quota(folder: &Path) -> Option<f64> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let (quota, period) = match text("cpu.max") {
        Some(both) => {
            let mut words = both.split_whitespace();
            (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?)
        }
        None => (text("cpu.cfs_quota_us")?.trim().parse().ok()?, text("cpu.cfs_period_us")?.trim().parse().ok()?),
    };
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn memory(folder: &Path) -> Option<MemoryLimit> {
    /// Version 1 writes "no limit" as the largest number of whole pages.
    const NO_LIMIT: u64 = 1 << 60;
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let (limit, used, prefix) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?, ""),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?, "total_"),
    };
    if limit >= NO_LIMIT {
        return None;
    }
    let statistics = text("memory.stat").unwrap_or_default();
    let cached: u64 = statistics
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| {
            name.strip_prefix(prefix).is_some_and(|name| matches!(name, "active_file" | "inactive_file"))
        })
        .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
        .sum();
    Some(MemoryLimit { limit, available: limit.saturating_sub(used.saturating_sub(cached)) })
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// Writes files under a folder that stands for `/`.
    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        root
    }

    const MOUNT_2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
    const MOUNT_1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/f00 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";

    #[test]
    fn a_quota_and_a_limit_of_version_2_are_read() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/user.slice/app.scope\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/user.slice/app.scope/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/user.slice/app.scope/memory.max", "1000000\n"),
            ("sys/fs/cgroup/user.slice/app.scope/memory.current", "700000\n"),
            (
                "sys/fs/cgroup/user.slice/app.scope/memory.stat",
                "anon 100000\ninactive_file 400000\nactive_file 200000\n",
            ),
        ]);
        let limits = read(root.path());
        assert_eq!(limits.quota, Some(1.5));
        assert_eq!(limits.memory, Some(MemoryLimit { limit: 1_000_000, available: 900_000 }));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/outer/cpu.max", "200000 100000\n"),
            ("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/outer/memory.max", "500\n"),
            ("sys/fs/cgroup/outer/memory.current", "100\n"),
            ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
        ]);
        let limits = read(root.path());
        assert_eq!(limits.quota, Some(2.0));
        assert_eq!(limits.memory, Some(MemoryLimit { limit: 500, available: 400 }));
    }

    #[test]
    fn a_container_of_version_1_sees_its_own_part_of_the_tree() {
        let root = tree(&[
            ("proc/self/cgroup", "5:memory:/docker/f00\n4:cpuacct,cpu:/docker/f00\n"),
            ("proc/self/mountinfo", MOUNT_1),
            ("sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\ntotal_active_file 500\n"),
        ]);
        let limits = read(root.path());
        assert_eq!(limits.quota, Some(0.5));
        assert_eq!(limits.memory, Some(MemoryLimit { limit: 4096, available: 2596 }));
    }

    #[test]
    fn no_limit_is_none_in_both_versions() {
        let second = tree(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ]);
        let first = tree(&[
            ("proc/self/cgroup", "5:memory:/docker/f00\n4:cpuacct,cpu:/\n"),
            ("proc/self/mountinfo", MOUNT_1),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3000\n"),
        ]);
        assert_eq!(read(second.path()), Limits::default());
        assert_eq!(read(first.path()), Limits::default());
        assert_eq!(read(Path::new("/nowhere")), Limits::default());
    }

    #[test]
    fn a_group_outside_of_the_mounted_part_is_not_looked_for_elsewhere() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/../../other\n"),
            ("proc/self/mountinfo", MOUNT_2),
            ("sys/fs/cgroup/cpu.max", "100000 100000\n"),
            ("sys/other/cpu.max", "1 100000\n"),
        ]);
        assert_eq!(read(root.path()).quota, Some(1.0));
    }
}
