//! Memory of weights: whole cache lines, in huge pages where the system has them.
//!
//! Every token reads all weights once. With pages of 4 KB that is as many look-ups of addresses as a
//! model has pages; with huge pages sampling was 6 % faster here. A matrix is mostly smaller than a
//! huge page (2 MB), so matrices share regions.

use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::kernels::error::KernelError;
use crate::kernels::packing::LINE;

/// A huge page of most systems.
const HUGE: usize = 2 << 20;
/// Bytes of a region, unless one matrix needs more. Pages that are never written take no memory.
const REGION: usize = 64 << 20;

/// A cache line of bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels) struct Line(pub(in crate::kernels) [u8; LINE]);

/// Zeroed memory that begins at a multiple of [`HUGE`].
struct Region {
    map: *mut u8,
    map_len: usize,
    at: *mut u8,
    len: usize,
}

// SAFETY: the memory is the region's alone; each part of it belongs to one `Lines`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(len: usize) -> Option<Self> {
        let len = len.checked_next_multiple_of(HUGE)?;
        let map_len = len.checked_add(HUGE)?;
        // SAFETY: a new mapping anywhere touches nothing that exists.
        let map = unsafe {
            mmap_anonymous(
                null_mut(),
                map_len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let map = map.ok()?.cast::<u8>();
        let at = map.wrapping_add(map.addr().next_multiple_of(HUGE) - map.addr());
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies in the mapping. Where the system has no huge pages the call fails,
        // which changes nothing.
        let _ = unsafe { rustix::mm::madvise(at.cast(), len, rustix::mm::Advice::LinuxHugepage) };
        Some(Self { map, map_len, at, len })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this region's, and nothing refers to it any more.
        let _ = unsafe { munmap(self.map.cast(), self.map_len) };
    }
}

/// The region that is being filled, for as long as it is in use, and how much of it is taken.
static FILLING: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));

/// Bytes that start at a multiple of 64, so that a register-wide read never straddles two lines.
pub(in crate::kernels) struct Lines {
    region: Arc<Region>,
    start: usize,
    len: usize,
}

impl Lines {
    /// `len` zero bytes, rounded up to whole lines.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`] if they cannot be allocated.
    pub(in crate::kernels) fn zeroed(len: usize) -> Result<Self, KernelError> {
        let failed = KernelError::OutOfMemory { bytes: len };
        let Some(len) = len.checked_next_multiple_of(LINE) else { return Err(failed) };
        let mut filling = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, taken) = &mut *filling;
        let region = match open.upgrade().filter(|region| region.len - *taken >= len) {
            Some(region) => region,
            None => {
                let Some(region) = Region::new(len.max(REGION)) else { return Err(failed) };
                let region = Arc::new(region);
                (*open, *taken) = (Arc::downgrade(&region), 0);
                region
            }
        };
        let start = *taken;
        *taken += len;
        Ok(Self { region, start, len })
    }

    pub(in crate::kernels) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`, shared.
        unsafe { std::slice::from_raw_parts(self.region.at.add(self.start), self.len) }
    }

    pub(in crate::kernels) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: these bytes of the region belong to this value alone, are initialized (zeroed by
        // the system), and are borrowed mutably with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.region.at.add(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_lines_of_their_own_and_begin_with_zeros() {
        let mut all: Vec<Lines> =
            [1, 64, 65, 0, 3 << 20].into_iter().map(|len| Lines::zeroed(len).unwrap()).collect();
        for (i, lines) in all.iter_mut().enumerate() {
            assert_eq!(lines.bytes().as_ptr().addr() % LINE, 0);
            assert!(lines.bytes().iter().all(|b| *b == 0));
            lines.bytes_mut().fill(i as u8 + 1);
        }
        for (i, lines) in all.iter().enumerate() {
            assert!(lines.bytes().iter().all(|b| *b == i as u8 + 1));
        }
        assert_eq!(all[2].bytes().len(), 128);
    }

    #[test]
    fn impossible_amounts_of_memory_are_refused() {
        assert!(matches!(Lines::zeroed(usize::MAX), Err(KernelError::OutOfMemory { .. })));
        assert!(matches!(Lines::zeroed(1 << 60), Err(KernelError::OutOfMemory { .. })));
    }
}
