//! Cores by efficiency class, as Windows counts them.

use std::collections::BTreeSet;

use windows_sys::Win32::System::SystemInformation::{
    GetLogicalProcessorInformationEx, RelationProcessorCore, SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX,
};

use super::{Cores, Kind};

/// Bytes of a record before its list of groups, and of one group in that list.
const HEAD: usize = 32;
const GROUP: usize = 16;

/// One core: how fast its class is, and its hardware threads.
struct Core {
    class: u8,
    threads: u32,
}

pub fn detect() -> Vec<Cores> {
    let cores = records().map(|bytes| read(&bytes)).unwrap_or_default();
    let fastest = cores.iter().map(|core| core.class).max().unwrap_or(0);
    [Kind::Performance, Kind::Efficiency]
        .into_iter()
        .filter_map(|kind| {
            let of_kind = cores.iter().filter(|core| (core.class == fastest) == (kind == Kind::Performance));
            let (count, threads) = of_kind.fold((0, 0), |(count, threads), core| (count + 1, threads + core.threads));
            (count > 0).then_some(Cores { kind, cores: count, threads, usable: count })
        })
        .collect()
}

pub fn allowed() -> Option<BTreeSet<u32>> {
    None
}

fn records() -> Option<Vec<u8>> {
    let mut len = 0_u32;
    // SAFETY: without a buffer the function only tells the length it needs.
    unsafe { GetLogicalProcessorInformationEx(RelationProcessorCore, std::ptr::null_mut(), &raw mut len) };
    let mut buffer = vec![0_u64; (len as usize).div_ceil(8)];
    let place = buffer.as_mut_ptr().cast::<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX>();
    // SAFETY: the buffer is aligned for the records and has the length that the function asked for.
    if unsafe { GetLogicalProcessorInformationEx(RelationProcessorCore, place, &raw mut len) } == 0 {
        return None;
    }
    let bytes: Vec<u8> = buffer.into_iter().flat_map(u64::to_ne_bytes).take(len as usize).collect();
    Some(bytes)
}

/// Each record has its size at byte 4, the efficiency class at 9, the number of groups at 30 and their masks from 32 on.
fn read(mut bytes: &[u8]) -> Vec<Core> {
    let mut cores = Vec::new();
    while bytes.len() >= HEAD {
        let size = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        if size < HEAD || size > bytes.len() {
            break;
        }
        let (record, rest) = bytes.split_at(size);
        let groups = usize::from(u16::from_ne_bytes([record[30], record[31]]));
        let masks = record[HEAD..].chunks_exact(GROUP).take(groups);
        let threads = masks.flat_map(|group| &group[..8]).map(|byte| byte.count_ones()).sum();
        cores.push(Core { class: record[9], threads });
        bytes = rest;
    }
    cores
}
