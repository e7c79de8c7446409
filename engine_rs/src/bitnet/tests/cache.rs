use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use super::super::{Cache, Pruned, prepare};
use super::{DOWN, LAST, Opened, Place, bytes_of, end_of, model};
use crate::error::EngineError;

#[test]
fn what_was_transcoded_once_is_used_again() {
    let place = Place::of("llama");
    let (first, told) = place.prepare().unwrap();
    assert!(told > 0);
    assert_eq!(place.prepare().unwrap(), (first, 0));
}

#[test]
fn a_source_is_known_wherever_it_lies() {
    let place = Place::of("llama");
    let (first, _) = place.prepare().unwrap();
    let moved = place.folder.path().join("moved.gguf");
    fs::rename(&place.source, &moved).unwrap();
    assert_eq!(prepare(&moved, &place.cache, &mut |_| panic!("transcoded again")).unwrap().path(), first);
}

#[test]
fn another_source_of_the_same_name_is_transcoded() {
    let place = Place::of("llama");
    let (first, _) = place.prepare().unwrap();
    let unchanged = fs::metadata(&place.source).unwrap().modified().unwrap();
    let mut bytes = fs::read(&place.source).unwrap();
    let scale = end_of(&model("llama"), DOWN, bytes.len()) - 32;
    bytes[scale..scale + 4].copy_from_slice(&1_f32.to_le_bytes());
    fs::write(&place.source, &bytes).unwrap();
    File::options().write(true).open(&place.source).unwrap().set_modified(unchanged).unwrap();
    let (second, told) = place.prepare().unwrap();
    assert!(second != first && told > 0);
    File::options().write(true).open(&place.source).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(place.prepare().unwrap().1 > 0);
}

#[test]
fn a_damaged_result_is_made_anew() {
    let place = Place::of("bitnet-b1.58");
    let (path, _) = place.prepare().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut damaged = vec![Vec::new(), whole[..whole.len() - 1].to_vec(), whole[..50].to_vec()];
    for at in [10, whole.len() - 1, whole.len() - 40, whole.len() - 90] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        damaged.push(bytes);
    }
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        assert!(place.prepare().unwrap().1 > 0);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn who_gives_up_in_the_middle_leaves_nothing() {
    let place = Place::of("llama");
    let stopped = prepare(&place.source, &place.cache, &mut |share| {
        if share > 0.5 { Err(EngineError::ShuttingDown) } else { Ok(()) }
    });
    assert_eq!(stopped.unwrap_err().code(), "shutting_down");
    assert_eq!(place.cached("gguf").len() + place.cached("partial").len(), 0);
    place.prepare().unwrap();
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let place = Place::of("llama");
    let cache = place.folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join(".tmpAbCdEf.partial"), b"GGUF").unwrap();
    place.prepare().unwrap();
    assert_eq!((place.cached("gguf").len(), place.cached("partial").len()), (1, 0));
}

#[test]
fn of_many_that_want_the_same_file_one_writes_it() {
    let place = Place::of("llama");
    let (start, writers) = (Barrier::new(8), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let mut wrote = false;
                // Who waits hears 0.
                let prepared = prepare(&place.source, &place.cache, &mut |share| {
                    wrote |= share > 0.0;
                    Ok(())
                });
                assert!(Opened::at(prepared.unwrap().path()).summary.problem.is_none());
                writers.fetch_add(usize::from(wrote), Ordering::Relaxed);
            });
        }
    });
    assert_eq!((writers.into_inner(), place.cached("gguf").len()), (1, 1));
}

/// Two transcoded files; the first was used longer ago.
fn two_files(place: &mut Place) -> [(PathBuf, u64); 2] {
    let mut files = ["llama", "bitnet"].map(|architecture| {
        fs::write(&place.source, bytes_of(&model(architecture))).unwrap();
        place.prepare().unwrap().0
    });
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&files[0]).unwrap().set_modified(long_ago).unwrap();
    files.each_mut().map(|path| (path.clone(), fs::metadata(&*path).unwrap().len()))
}

#[test]
fn pruning_removes_the_least_recently_used_first() {
    let mut place = Place::of("llama");
    let [(older, older_bytes), (newer, newer_bytes)] = two_files(&mut place);
    assert_eq!(place.cache.prune(older_bytes + newer_bytes).unwrap(), Pruned::default());
    assert_eq!(place.cache.prune(newer_bytes).unwrap(), Pruned { files: 1, bytes: older_bytes });
    assert_eq!((older.exists(), newer.exists()), (false, true));
    assert_eq!(place.cache.prune(0).unwrap(), Pruned { files: 1, bytes: newer_bytes });
    assert_eq!(place.cache.prune(0).unwrap(), Pruned::default());
}

#[test]
fn pruning_a_cache_that_was_never_used_removes_nothing() {
    let place = Place::of("llama");
    assert_eq!(place.cache.prune(0).unwrap(), Pruned::default());
}

#[test]
fn a_new_file_makes_the_oldest_leave_when_the_limit_is_reached() {
    let mut place = Place::of("llama");
    let [(older, older_bytes), (newer, newer_bytes)] = two_files(&mut place);
    place.cache = Cache::new(place.folder.path().join("cache"), older_bytes + newer_bytes);
    fs::write(&place.source, bytes_of(&model("bitnet-25"))).unwrap();
    let (newest, _) = place.prepare().unwrap();
    assert_eq!((older.exists(), newer.exists(), newest.exists()), (false, true, true));
}

#[test]
fn a_cache_that_cannot_be_written_is_told_by_its_folder() {
    let mut place = Place::of("llama");
    place.cache = Cache::new(place.source.join("below a file"), u64::MAX);
    let error = place.prepare().unwrap_err();
    assert_eq!(error.code(), "model_load_failed");
    assert!(error.to_string().contains("below a file"), "{error}");
}

#[test]
fn what_the_disk_cannot_hold_is_refused_before_anything_is_written() {
    // 8 TiB that take no room here: the file has a hole.
    const ROWS: u64 = 1 << 37;
    let mut fixture = model("llama");
    fixture.set_tensor(LAST, &[256, 1], 36).tensor(LAST).1[1] = ROWS;
    let place = Place::new(&fixture.bytes());
    let file = File::options().write(true).open(&place.source).unwrap();
    file.set_len(file.metadata().unwrap().len() + ROWS * 64).unwrap();
    let error = place.prepare().unwrap_err();
    assert!(error.to_string().contains("MB are free"), "{error}");
    assert_eq!(place.cached("gguf").len() + place.cached("partial").len(), 0);
}
