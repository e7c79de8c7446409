//! The processor's caches.

/// Caches of one level, purpose and size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// `data`, `instruction` or `unified`.
    pub purpose: &'static str,
    /// Bytes of each.
    pub bytes: u64,
    /// How many there are; 0 where the system does not tell.
    pub count: u32,
}

/// Asks the operating system; empty where it does not tell.
#[must_use]
pub fn detect() -> Vec<Cache> {
    system::detect()
}

#[cfg(target_os = "linux")]
mod system {
    pub fn detect() -> Vec<super::Cache> {
        super::linux::detect(std::path::Path::new("/"))
    }
}

#[cfg(target_os = "macos")]
mod system {
    use super::Cache;
    use crate::hardware::apple::number;

    pub fn detect() -> Vec<Cache> {
        let names = [
            (1, "data", "hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
            (1, "instruction", "hw.perflevel0.l1icachesize", "hw.l1icachesize"),
            (2, "unified", "hw.perflevel0.l2cachesize", "hw.l2cachesize"),
            (3, "unified", "hw.perflevel0.l3cachesize", "hw.l3cachesize"),
        ];
        names
            .into_iter()
            .filter_map(|(level, purpose, of_fast_cores, of_all)| {
                let bytes = number(of_fast_cores).or_else(|| number(of_all)).filter(|bytes| *bytes > 0)?;
                Some(Cache { level, purpose, bytes, count: 0 })
            })
            .collect()
    }
}

#[cfg(all(not(any(target_os = "linux", target_os = "macos")), target_arch = "x86_64"))]
mod system {
    use raw_cpuid::{CacheType, CpuId};

    use super::Cache;

    pub fn detect() -> Vec<Cache> {
        let parameters = CpuId::new().get_cache_parameters().into_iter().flatten();
        let caches = parameters.filter_map(|cache| {
            let purpose = match cache.cache_type() {
                CacheType::Data => "data",
                CacheType::Instruction => "instruction",
                CacheType::Unified => "unified",
                _ => return None,
            };
            let lines = cache.associativity() * cache.physical_line_partitions() * cache.sets();
            let bytes = (lines * cache.coherency_line_size()) as u64;
            Some(Cache { level: u32::from(cache.level()), purpose, bytes, count: 0 })
        });
        caches.collect()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", target_arch = "x86_64")))]
mod system {
    pub fn detect() -> Vec<super::Cache> {
        Vec::new()
    }
}

#[cfg(any(target_os = "linux", test))]
mod linux {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::Cache;

    pub fn detect(root: &Path) -> Vec<Cache> {
        let Ok(processors) = std::fs::read_dir(root.join("sys/devices/system/cpu")) else { return Vec::new() };
        let mut found: BTreeMap<(u32, &str, u64), BTreeSet<String>> = BTreeMap::new();
        for processor in processors.flatten() {
            let Ok(indices) = std::fs::read_dir(processor.path().join("cache")) else { continue };
            for index in indices.flatten() {
                if let Some((level, purpose, bytes, sharers)) = read(&index.path()) {
                    found.entry((level, purpose, bytes)).or_default().insert(sharers);
                }
            }
        }
        let caches = found.into_iter();
        caches
            .map(|((level, purpose, bytes), sets)| Cache { level, purpose, bytes, count: sets.len() as u32 })
            .collect()
    }

    /// Level, purpose, bytes, and the hardware threads that share it, by which two caches are told apart.
    fn read(folder: &Path) -> Option<(u32, &'static str, u64, String)> {
        let text = |name: &str| Some(std::fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
        let purpose = match text("type")?.as_str() {
            "Data" => "data",
            "Instruction" => "instruction",
            "Unified" => "unified",
            _ => return None,
        };
        let size = text("size")?;
        let bytes = match size.split_at_checked(size.len().saturating_sub(1))? {
            (number, "K") => number.parse::<u64>().ok()? << 10,
            (number, "M") => number.parse::<u64>().ok()? << 20,
            _ => size.parse().ok()?,
        };
        Some((text("level")?.parse().ok()?, purpose, bytes, text("shared_cpu_list")?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, linux};
    use crate::hardware::cgroup::tests::tree;

    #[test]
    fn a_cache_that_two_threads_share_is_one() {
        let mut files = Vec::new();
        for (processor, own) in [(0, "0"), (1, "1")] {
            let caches = [("index0", "1", "Data", "32K", own), ("index3", "3", "Unified", "8M", "0-1")];
            for (index, level, purpose, size, sharers) in caches {
                let folder = format!("sys/devices/system/cpu/cpu{processor}/cache/{index}");
                let facts = [("level", level), ("type", purpose), ("size", size), ("shared_cpu_list", sharers)];
                files.extend(facts.map(|(name, text)| (format!("{folder}/{name}"), format!("{text}\n"))));
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let first = Cache { level: 1, purpose: "data", bytes: 32 << 10, count: 2 };
        let last = Cache { level: 3, purpose: "unified", bytes: 8 << 20, count: 1 };
        assert_eq!(linux::detect(tree(&files).path()), [first, last]);
    }

    #[test]
    fn a_kernel_that_tells_nothing_gives_none() {
        assert_eq!(linux::detect(std::path::Path::new("/nowhere")), []);
    }
}
