//! Who holds how much, worked out anew from the holders each time it is asked.

use std::sync::atomic::Ordering::SeqCst;

use super::Locked;
use super::process::Identity;
use super::rule::{Effect, Fault};
use super::table::Holder;

/// In which of NVML's process lists a process shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CUDA.
    Compute,
    /// A display server or a game.
    Graphics,
    /// A client of MPS.
    Mps,
}

impl Kind {
    /// Reads the word of a scenario.
    pub fn parse(text: &str) -> Option<Kind> {
        match text {
            "compute" => Some(Kind::Compute),
            "graphics" => Some(Kind::Graphics),
            "mps" => Some(Kind::Mps),
            _ => None,
        }
    }
}

/// What one process holds at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Process id.
    pub pid: u32,
    /// Index of the place.
    pub place: usize,
    /// Contexts and allocations together.
    pub bytes: u64,
    /// In which list it shows.
    pub kind: Kind,
}

/// There is not as much free as was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEnough;

impl Locked<'_> {
    /// Counts a call of any name; returns its number, from one.
    pub fn count_call(&self) -> u64 {
        self.table.calls.fetch_add(1, SeqCst) + 1
    }

    /// Lets every rule count this call; returns the first fault, after moving what steals move.
    pub fn apply_rules(&self, name: &str) -> Option<Fault> {
        let mut fault = None;
        for (index, rule) in self.scenario.rules.iter().enumerate() {
            if !rule.matches(name) {
                continue;
            }
            let hit = self.table.rule_hits[index].fetch_add(1, SeqCst) + 1;
            match &rule.effect {
                _ if !rule.acts_on(hit) => {}
                Effect::Move { place, pid, bytes, takes } => {
                    if self.table.moved[index].load(SeqCst) == 0 {
                        let most =
                            if *takes { self.free(*place) } else { self.neighbour(*place, *pid) };
                        self.table.moved[index].store((*bytes).min(most) + 1, SeqCst);
                    }
                }
                Effect::Fail(how) => fault = fault.or(Some(*how)),
            }
        }
        fault
    }

    /// Bytes that a process of the scenario holds: its own, and what steals moved.
    fn neighbour(&self, place: usize, pid: u32) -> u64 {
        let own = self.scenario.neighbours.iter();
        let own = own.filter(|n| n.place == place && n.pid == pid).map(|n| n.bytes).sum::<u64>();
        self.moves()
            .filter(|(at, who, ..)| *at == place && *who == pid)
            .fold(own, |sum, (_, _, bytes, takes)| if takes { sum + bytes } else { sum - bytes })
    }

    /// Steals so far: place, pid, bytes, whether taken. Gives come after what they give back.
    fn moves(&self) -> impl Iterator<Item = (usize, u32, u64, bool)> {
        let done = |index: usize| self.table.moved[index].load(SeqCst).checked_sub(1);
        let rules = self.scenario.rules.iter().enumerate();
        let mut moves: Vec<_> = rules
            .filter_map(|(index, rule)| match rule.effect {
                Effect::Move { place, pid, takes, .. } => Some((place, pid, done(index)?, takes)),
                _ => None,
            })
            .collect();
        moves.sort_by_key(|(_, _, _, takes)| !takes);
        moves.into_iter()
    }

    /// Every process that holds memory at `place`; for a card in MIG mode on its instances too.
    pub fn holdings(&self, place: usize) -> Vec<Holding> {
        let scenario = self.scenario;
        let of = &scenario.places[place];
        let here =
            |at: usize| at == place || (of.mig.is_none() && scenario.places[at].gpu == of.gpu);
        let mut list: Vec<Holding> = Vec::new();
        for holder in self.holders() {
            let at = holder.place.load(SeqCst) as usize;
            let contexts = holder.contexts.load(SeqCst);
            let bytes = self.bytes_of(holder);
            if here(at) && (contexts > 0 || bytes > 0) {
                let pid = holder.pid.load(SeqCst) as u32;
                list.push(Holding { pid, place: at, bytes, kind: Kind::Compute });
            }
        }
        let named = scenario.neighbours.iter().map(|n| (n.place, n.pid, n.kind));
        let moved = self.moves().map(|(place, pid, ..)| (place, pid, Kind::Compute));
        for (at, pid, kind) in named.chain(moved) {
            let known = list.iter().any(|h| h.pid == pid && h.place == at);
            let bytes = self.neighbour(at, pid);
            if here(at) && !known && bytes > 0 {
                list.push(Holding { pid, place: at, bytes, kind });
            }
        }
        list
    }

    /// Bytes that real processes hold at `place`, those of the scenario left out.
    #[cfg(test)]
    pub fn held(&self, place: usize) -> u64 {
        let here = self.holders().filter(|holder| holder.place.load(SeqCst) == place as u64);
        here.map(|holder| self.bytes_of(holder)).sum()
    }

    /// Bytes that processes hold at `place`.
    pub fn used(&self, place: usize) -> u64 {
        self.holdings(place).iter().map(|holding| holding.bytes).sum()
    }

    /// Bytes that are left at `place`.
    pub fn free(&self, place: usize) -> u64 {
        let (total, reserved) = self.scenario.memory(place);
        total.saturating_sub(reserved).saturating_sub(self.used(place))
    }

    /// Bytes that this process can still get at `place`: what is free, within its own limit.
    pub fn available(&self, place: usize) -> u64 {
        let own = self.own(place).map_or(0, |holder| self.bytes_of(holder));
        let limit = self.scenario.gpu_at(place).client_limit.saturating_sub(own);
        self.free(place).min(limit)
    }

    /// Returns `bytes` rounded up to the granules of a place, if there is such a number.
    pub fn in_granules(&self, place: usize, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(self.scenario.gpu_at(place).granularity)
    }

    /// Takes `bytes` for this process, in granules; returns what was taken.
    pub fn take(&self, place: usize, bytes: u64) -> Result<u64, NotEnough> {
        let taken = self.in_granules(place, bytes).ok_or(NotEnough)?;
        self.make_room(place, taken)?;
        let holder = self.claim(place);
        holder.allocated.fetch_add(taken, SeqCst);
        self.note_peak(holder);
        Ok(taken)
    }

    /// Bytes of allocations that this process holds at `place`.
    pub fn allocated(&self, place: usize) -> u64 {
        self.own(place).map_or(0, |holder| holder.allocated.load(SeqCst))
    }

    /// Gives `taken` bytes back.
    pub fn give_back(&self, place: usize, taken: u64) {
        if let Some(holder) = self.own(place) {
            holder.allocated.fetch_sub(taken, SeqCst);
        }
    }

    /// Takes the bytes of one context.
    pub fn add_context(&self, place: usize) -> Result<(), NotEnough> {
        self.make_room(place, self.scenario.gpu_at(place).context)?;
        let holder = self.claim(place);
        holder.contexts.fetch_add(1, SeqCst);
        self.note_peak(holder);
        Ok(())
    }

    /// Gives the bytes of one context back.
    pub fn remove_context(&self, place: usize) {
        if let Some(holder) = self.own(place) {
            holder.contexts.fetch_sub(1, SeqCst);
        }
    }

    /// Whether any other process computes at `place`.
    pub fn others_are_on(&self, place: usize) -> bool {
        self.reap();
        let holdings = self.holdings(place);
        holdings.iter().any(|h| h.pid != self.me.pid && h.kind != Kind::Graphics)
    }

    /// Lets go of what dead processes held.
    pub fn reap(&self) {
        for holder in self.holders() {
            let who = identity(holder);
            if who != self.me && !who.is_alive() {
                holder.pid.store(0, SeqCst);
            }
        }
    }

    /// Lets go of all that a process held.
    pub fn forget(&self, who: Identity) {
        for holder in self.holders().filter(|holder| identity(holder) == who) {
            holder.pid.store(0, SeqCst);
        }
    }

    fn make_room(&self, place: usize, bytes: u64) -> Result<(), NotEnough> {
        if self.has_room(place, bytes) {
            return Ok(());
        }
        self.note_refusal(place, bytes, self.available(place));
        Err(NotEnough)
    }

    /// Whether this process could take so many bytes at `place`, without what dead ones held.
    pub fn has_room(&self, place: usize, bytes: u64) -> bool {
        if bytes <= self.available(place) || self.scenario.gpu_at(place).overcommit {
            return true;
        }
        self.reap();
        bytes <= self.available(place)
    }

    pub(super) fn bytes_of(&self, holder: &Holder) -> u64 {
        let gpu = self.scenario.gpu_at(holder.place.load(SeqCst) as usize);
        holder.contexts.load(SeqCst) * gpu.context + holder.allocated.load(SeqCst)
    }

    fn holders(&self) -> impl Iterator<Item = &Holder> {
        let touched = self.table.holders_touched.load(SeqCst) as usize;
        let places = self.scenario.places.len() as u64;
        self.table.holders[..touched]
            .iter()
            .filter(move |h| h.pid.load(SeqCst) != 0 && h.place.load(SeqCst) < places)
    }

    fn own(&self, place: usize) -> Option<&Holder> {
        self.holders().find(|h| identity(h) == self.me && h.place.load(SeqCst) == place as u64)
    }

    /// Returns this process' holder for `place`, taking a free one if it has none.
    fn claim(&self, place: usize) -> &Holder {
        if let Some(holder) = self.own(place) {
            return holder;
        }
        self.reap();
        let free = self.table.holders.iter().position(|h| h.pid.load(SeqCst) == 0);
        let Some(index) = free else {
            give_up("more processes hold memory than the state file has room for");
        };
        let holder = &self.table.holders[index];
        holder.start.store(self.me.start, SeqCst);
        holder.place.store(place as u64, SeqCst);
        holder.contexts.store(0, SeqCst);
        holder.allocated.store(0, SeqCst);
        holder.record.store(self.record_of(self.me, place), SeqCst);
        self.table.holders_touched.fetch_max(index as u64 + 1, SeqCst);
        holder.pid.store(u64::from(self.me.pid), SeqCst);
        holder
    }
}

/// Says why the stand-in cannot go on, and ends the process: no answer would be honest.
fn give_up(reason: &str) -> ! {
    eprintln!("oomph virtual GPU: {reason}");
    std::process::abort()
}

fn identity(holder: &Holder) -> Identity {
    Identity { pid: holder.pid.load(SeqCst) as u32, start: holder.start.load(SeqCst) }
}
