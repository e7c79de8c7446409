//! How much memory transcoding takes. A test binary of its own, since it counts all allocations of the process.

#[path = "../src/gguf/fixture.rs"]
#[allow(dead_code, reason = "made for the parser's tests")]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};

use fixture::Fixture;
use tabagent_engine::bitnet::{Cache, prepare};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all work is the system allocator's; only its sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this function, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_model_is_never_in_memory() {
    const CODES: u64 = 16 << 20;
    let mut model = Fixture::model(&[]);
    let last = "blk.1.ffn_down.weight";
    model.set_tensor(last, &[256, 1], 36).tensor(last).1[1] = CODES / 64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, model.bytes()).unwrap();
    let header = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(header + CODES).unwrap();
    let cache = Cache::new(folder.path().join("cache"), u64::MAX);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let prepared = prepare(&path, &cache, &mut |_| Ok(())).unwrap();
    let taken = PEAK.load(Ordering::Relaxed) - before;
    assert!(fs::metadata(prepared.path()).unwrap().len() > CODES);
    assert!(taken < 4 << 20, "{taken} bytes");
}
