//! What the probe's child holds of the device: segments, and the pages of expandable segments, never
//! taking the device below the headroom.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::child::{Halt, nobody_listens};
use super::cuda::{CudaError, Entered};
use super::cuda_mapping::Mapping;
use crate::memory::allocator::{PageSource, Refusal, Segment, SegmentSource};
use crate::units::Bytes;

/// Under which terms to take memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Bytes to leave free at all times.
    pub headroom: u64,
    /// Bytes to take at most.
    pub cap: u64,
    /// What the driver takes multiples of for a segment.
    pub granule: u64,
    /// Set once nothing more is to be taken.
    pub told_to_stop: &'a AtomicBool,
}

/// Device memory by cuMemAlloc, and by cuMemCreate and cuMemMap.
pub(super) struct DeviceMemory<'a> {
    context: &'a Entered<'a>,
    /// There once a trace has asked for expandable segments.
    mapping: Option<&'a Mapping<'a>>,
    terms: Terms<'a>,
    /// Free as last read, plus what was given back since.
    pub free: u64,
    held: u64,
    /// What is held, in the driver's granules.
    taken: u64,
    /// The most that was held at once.
    pub peak_held: u64,
    /// What was free then.
    pub free_at_peak: u64,
    /// The most that was granted at once, in granules.
    pub largest_granted: u64,
    /// The smallest capacity on which nothing would have been refused.
    pub smallest_refused: Option<u64>,
    /// Segments: address and bytes.
    live: BTreeMap<u64, u64>,
    /// Pages by address.
    pages: BTreeMap<u64, Page>,
    /// Reserved addresses: start and bytes.
    ranges: BTreeMap<u64, u64>,
}

/// Memory that cuMemCreate gave.
#[derive(Debug, Clone, Copy)]
struct Page {
    handle: u64,
    bytes: u64,
    mapped: bool,
}

impl<'a> DeviceMemory<'a> {
    /// Holds nothing yet of a device with `free` bytes.
    pub fn new(
        context: &'a Entered<'a>,
        mapping: Option<&'a Mapping<'a>>,
        terms: Terms<'a>,
        free: u64,
    ) -> DeviceMemory<'a> {
        DeviceMemory {
            context,
            mapping,
            terms,
            free,
            held: 0,
            taken: 0,
            peak_held: 0,
            free_at_peak: free,
            largest_granted: 0,
            smallest_refused: None,
            live: BTreeMap::new(),
            pages: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    fn read_free(&mut self) -> Result<(), CudaError> {
        self.free = self.context.mem_info()?.free;
        Ok(())
    }

    /// Whether so many bytes in granules leave the headroom; by arithmetic first: on some systems
    /// (WSL 2) an allocation past the card's memory succeeds, and elsewhere a refused one costs more
    /// than reading what is free.
    fn has_room(&mut self, taken: u64) -> Result<bool, CudaError> {
        if self.taken.saturating_add(taken) > self.terms.cap {
            return Ok(false);
        }
        let leaves =
            |free: u64| free.checked_sub(taken).is_some_and(|left| left >= self.terms.headroom);
        if leaves(self.free) {
            return Ok(true);
        }
        let free = self.context.mem_info()?.free;
        let has_room = leaves(free);
        self.free = free;
        Ok(has_room)
    }

    /// Notes what would have had to be there, for so many bytes in granules.
    ///
    /// Where that much was there, the driver has refused for a reason of its own: no capacity then
    /// explains the replay, and the search asks again.
    fn refuse(&mut self, taken: u64) {
        let needed = self.taken.saturating_add(taken);
        self.smallest_refused = Some(self.smallest_refused.map_or(needed, |n| n.min(needed)));
    }

    fn count(&mut self, bytes: u64, taken: u64) {
        self.held += bytes;
        self.taken += taken;
    }

    fn discount(&mut self, bytes: u64, taken: u64) {
        self.held -= bytes;
        self.taken -= taken;
        self.free = self.free.saturating_add(bytes);
    }

    fn note_peak(&mut self) {
        self.largest_granted = self.largest_granted.max(self.taken);
        if self.held > self.peak_held {
            self.peak_held = self.held;
            self.free_at_peak = self.free;
        }
    }

    fn in_granules(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.terms.granule)
    }

    fn stopped(&self) -> Result<(), Refusal<Halt>> {
        if self.terms.told_to_stop.load(Ordering::SeqCst) || nobody_listens() {
            return Err(Refusal::Failed(Halt::Stopped));
        }
        Ok(())
    }

    fn free_one(&mut self, address: u64) -> Result<(), CudaError> {
        let Some(bytes) = self.live.remove(&address) else { return Ok(()) };
        self.context.free(address)?;
        self.discount(bytes, self.in_granules(bytes));
        Ok(())
    }

    fn allocate_within_headroom(&mut self, bytes: u64) -> Result<Option<u64>, CudaError> {
        let taken = self.in_granules(bytes);
        if !self.has_room(taken)? {
            self.refuse(taken);
            return Ok(None);
        }
        let Some(address) = self.context.alloc(bytes)? else {
            self.refuse(taken);
            return Ok(None);
        };
        self.live.insert(address, bytes);
        self.count(bytes, taken);
        self.read_free()?;
        if self.free < self.terms.headroom {
            // The driver took more than was asked for, or a neighbour did.
            self.free_one(address)?;
            self.refuse(taken);
            return Ok(None);
        }
        self.note_peak();
        Ok(Some(address))
    }

    /// Gives back what is left, and goes on after a failure: the first one is returned.
    pub fn give_back_all(&mut self) -> Result<(), CudaError> {
        let mut result = Ok(());
        for address in self.live.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.free_one(address));
        }
        for address in self.pages.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.drop_page(address));
        }
        for address in self.ranges.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.free_range(address));
        }
        result
    }

    /// Maps pages at addresses that are reserved; `false`, and none mapped, is out of memory.
    ///
    /// In PyTorch's order: the memory of all pages first, then their addresses, then access.
    fn map_within_headroom(
        &mut self,
        address: u64,
        bytes: u64,
        page: u64,
    ) -> Result<bool, Refusal<Halt>> {
        let mapping = self.mapping()?;
        let taken = bytes / page * self.in_granules(page);
        if !self.has_room(taken)? {
            self.refuse(taken);
            return Ok(false);
        }
        let pages = || (address..address + bytes).step_by(usize::try_from(page).unwrap_or(1));
        let mut granted = true;
        for place in pages() {
            self.stopped()?;
            let Some(handle) = mapping.create(page)? else {
                granted = false;
                break;
            };
            self.pages.insert(place, Page { handle, bytes: page, mapped: false });
            self.count(page, self.in_granules(page));
        }
        if granted {
            for place in pages() {
                let Some(page) = self.pages.get_mut(&place) else { continue };
                mapping.map(place, page.bytes, page.handle)?;
                page.mapped = true;
            }
            mapping.set_access(address, bytes)?;
            self.read_free()?;
            // The driver took more than was asked for, or a neighbour did.
            granted = self.free >= self.terms.headroom;
        }
        if granted {
            self.note_peak();
            return Ok(true);
        }
        self.drop_pages(address, bytes)?;
        // Pages made before a refused one were not read off yet.
        self.read_free()?;
        self.refuse(taken);
        Ok(false)
    }

    /// Gives the pages back that lie in a range, and goes on after a failure: the first is returned.
    fn drop_pages(&mut self, address: u64, bytes: u64) -> Result<(), CudaError> {
        let places: Vec<u64> =
            self.pages.range(address..address + bytes).map(|(&place, _)| place).collect();
        let mut result = Ok(());
        for place in places {
            result = result.and(self.drop_page(place));
        }
        result
    }

    fn drop_page(&mut self, address: u64) -> Result<(), CudaError> {
        let (Some(page), Ok(mapping)) = (self.pages.remove(&address), self.mapping()) else {
            return Ok(());
        };
        let unmapped = if page.mapped { mapping.unmap(address, page.bytes) } else { Ok(()) };
        let released = mapping.release(page.handle);
        self.discount(page.bytes, self.in_granules(page.bytes));
        unmapped.and(released)
    }

    /// Gives addresses back, and first the pages in them of a call that broke off.
    fn free_range(&mut self, address: u64) -> Result<(), CudaError> {
        let Some(bytes) = self.ranges.remove(&address) else { return Ok(()) };
        let dropped = self.drop_pages(address, bytes);
        dropped.and(self.mapping()?.free_addresses(address, bytes))
    }

    fn mapping(&self) -> Result<&'a Mapping<'a>, CudaError> {
        self.mapping.ok_or(CudaError::NoVirtualMemory)
    }
}

impl From<CudaError> for Refusal<Halt> {
    fn from(error: CudaError) -> Refusal<Halt> {
        Refusal::Failed(error.into())
    }
}

impl SegmentSource for DeviceMemory<'_> {
    type Error = Halt;

    fn allocate(&mut self, bytes: Bytes) -> Result<Segment, Refusal<Halt>> {
        self.stopped()?;
        match self.allocate_within_headroom(bytes.get())? {
            Some(address) => Ok(Segment { address }),
            None => Err(Refusal::OutOfMemory),
        }
    }

    fn release(&mut self, segment: Segment) -> Result<(), Halt> {
        Ok(self.free_one(segment.address)?)
    }
}

impl PageSource for DeviceMemory<'_> {
    fn reserve(&mut self, bytes: Bytes) -> Result<u64, Halt> {
        let address = self.mapping()?.reserve(bytes.get())?;
        self.ranges.insert(address, bytes.get());
        Ok(address)
    }

    fn map(&mut self, address: u64, bytes: Bytes, page: Bytes) -> Result<(), Refusal<Halt>> {
        self.stopped()?;
        match self.map_within_headroom(address, bytes.get(), page.get())? {
            true => Ok(()),
            false => Err(Refusal::OutOfMemory),
        }
    }

    fn unmap(&mut self, address: u64, bytes: Bytes, _: Bytes) -> Result<(), Halt> {
        Ok(self.drop_pages(address, bytes.get())?)
    }

    fn release_range(&mut self, address: u64, _: Bytes) -> Result<(), Halt> {
        Ok(self.free_range(address)?)
    }
}
