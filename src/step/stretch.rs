//! A recorded micro-step of a few alike layers, stretched to all of them.
//!
//! Five layers were run. The events of the one in the middle are recorded once more for each layer
//! that was not, on new blocks: after it where layers follow each other, before it in backward. That
//! the layers beside it recorded the same is checked first, event by event: the same sizes, the same
//! births, and frees of the same blocks of the same neighbour. Where it does not hold, nothing is
//! stretched and every layer has to be run.

use std::ops::Range;

use crate::step::alike::{Alike, RUN, TEMPLATE};
use crate::step::recorder::Mark;
use crate::step::repeat::Arrival;
use crate::trace::{Block, BlockId, Event, Trace};

/// Events that one layer made, or none of them.
#[derive(Debug, Clone)]
pub struct Span {
    /// The first event.
    pub start: usize,
    /// Which of the layers that are run.
    pub layer: Option<u8>,
}

/// The same, as far as the next one.
#[derive(Debug, Clone)]
struct Piece {
    events: Range<usize>,
    layer: Option<usize>,
    /// Whether the layer made them itself; else they are frees of its blocks by others.
    inside: bool,
    arrivals: Range<usize>,
}

/// What a block is in a micro-step of a few layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    layer: usize,
    number: u32,
}

/// What comes of stretching.
#[derive(Debug)]
pub struct Stretched {
    /// Gradients that came to the parameters of all layers.
    pub arrivals: Vec<Arrival>,
    /// The numbers that the blocks recorded have now.
    pub renamed: Vec<BlockId>,
}

/// Stretches the events after `from`, if it can; blocks are numbered by birth again.
///
/// `spans` cover the events after `from` without gaps.
pub fn stretch(
    trace: &mut Trace,
    from: Mark,
    spans: &[Span],
    arrivals: &[Arrival],
    alike: &Alike,
) -> Option<Stretched> {
    let blocks = Blocks::of(trace, from, spans);
    let pieces = pieces(trace, spans, &blocks, arrivals);
    let order = order(&pieces)?;
    blocks.are_alike(trace, alike)?;
    for piece in &pieces {
        blocks.are_near(trace, piece)?;
    }
    for (at, _) in pieces.iter().enumerate().filter(|(_, piece)| piece.layer == Some(TEMPLATE)) {
        for beside in [at - 1, at + 1] {
            blocks.same_events(trace, &pieces[at], &pieces[beside])?;
            same_arrivals(arrivals, &pieces[at], &pieces[beside], alike)?;
        }
    }
    let mut made = Made::new(trace, from, &blocks, alike);
    made.write(from, &pieces, &order, arrivals);
    Some(Stretched { arrivals: made.arrivals, renamed: made.renamed })
}

/// The blocks that were born in a micro-step, by layer.
struct Blocks {
    first: u32,
    places: Vec<Option<Place>>,
    of_layer: [Vec<BlockId>; RUN],
}

impl Blocks {
    fn of(trace: &Trace, from: Mark, spans: &[Span]) -> Blocks {
        let first = from.blocks();
        let mut places = vec![None; trace.blocks.len() - first as usize];
        let mut of_layer: [Vec<BlockId>; RUN] = Default::default();
        for (at, span) in spans.iter().enumerate() {
            let Some(layer) = span.layer.map(usize::from) else { continue };
            let end = spans.get(at + 1).map_or(trace.events.len(), |next| next.start);
            for event in &trace.events[span.start..end] {
                if let Event::Alloc(id) = *event {
                    let number = of_layer[layer].len() as u32;
                    places[(id.0 - first) as usize] = Some(Place { layer, number });
                    of_layer[layer].push(id);
                }
            }
        }
        Blocks { first, places, of_layer }
    }

    /// Returns a block's place, unless it is of no layer.
    fn place(&self, id: BlockId) -> Option<Place> {
        self.places.get(id.0.checked_sub(self.first)? as usize).copied().flatten()
    }

    /// Checks that the template and the layers beside it made the same blocks.
    fn are_alike(&self, trace: &Trace, alike: &Alike) -> Option<()> {
        let template = &self.of_layer[TEMPLATE];
        for (side, layer) in [TEMPLATE - 1, TEMPLATE + 1].into_iter().enumerate() {
            let beside = &self.of_layer[layer];
            let same = |(a, b): (&BlockId, &BlockId)| {
                let (a, b) = (trace.blocks[a.0 as usize], trace.blocks[b.0 as usize]);
                (a.bytes, a.category, a.phase) == (b.bytes, b.category, b.phase)
                    && alike.same_module(side, a.module, b.module)
            };
            if template.len() != beside.len() || !template.iter().zip(beside).all(same) {
                return None;
            }
        }
        Some(())
    }

    /// Checks that a layer frees blocks of itself and of those beside it only, and that the template
    /// frees none that is of no layer.
    fn are_near(&self, trace: &Trace, piece: &Piece) -> Option<()> {
        let Some(layer) = piece.layer.filter(|_| piece.inside) else { return Some(()) };
        for event in &trace.events[piece.events.clone()] {
            match self.place(event.block()) {
                Some(place) if place.layer.abs_diff(layer) > 1 => return None,
                None if layer == TEMPLATE => return None,
                _ => {}
            }
        }
        Some(())
    }

    /// Checks that two pieces are the same, each seen from its own layer.
    fn same_events(&self, trace: &Trace, one: &Piece, other: &Piece) -> Option<()> {
        if one.events.len() != other.events.len() || one.inside != other.inside {
            return None;
        }
        let seen = |piece: &Piece, event: &Event| {
            let place = self.place(event.block())?;
            let birth = matches!(event, Event::Alloc(_));
            Some((birth, place.number, place.layer as i64 - piece.layer? as i64))
        };
        let (a, b) = (&trace.events[one.events.clone()], &trace.events[other.events.clone()]);
        a.iter().zip(b).all(|(a, b)| seen(one, a) == seen(other, b)).then_some(())
    }
}

/// Cuts spans where blocks of another layer are freed by what is of none.
fn pieces(trace: &Trace, spans: &[Span], blocks: &Blocks, arrivals: &[Arrival]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        let end = spans.get(at + 1).map_or(trace.events.len(), |next| next.start);
        let came = pieces.last().map_or(0, |piece| piece.arrivals.end);
        let here = arrivals[came..].iter().take_while(|arrival| arrival.span <= at).count();
        if let Some(layer) = span.layer {
            let (layer, arrivals) = (Some(usize::from(layer)), came..came + here);
            pieces.push(Piece { events: span.start..end, layer, inside: true, arrivals });
            continue;
        }
        let first = pieces.len();
        let new = |events, layer| Piece { events, layer, inside: false, arrivals: came..came };
        pieces.push(new(span.start..span.start, None));
        for (at, event) in (span.start..).zip(&trace.events[span.start..end]) {
            let layer = blocks.place(event.block()).map(|place| place.layer);
            match pieces.last_mut() {
                Some(last) if last.layer == layer => last.events.end = at + 1,
                _ => pieces.push(new(at..at + 1, layer)),
            }
        }
        // What comes to parameters of no layer: the piece that the event is in, or ends.
        for arrival in &arrivals[came..came + here] {
            let at = pieces[first..].partition_point(|piece| piece.events.start <= arrival.event);
            pieces[first + at.saturating_sub(1)].arrivals.end += 1;
        }
        let mut next = came;
        for piece in &mut pieces[first..] {
            let many = piece.arrivals.len();
            piece.arrivals = next..next + many;
            next += many;
        }
    }
    pieces
}

/// In which order layers follow each other at a piece of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As in forward.
    Up,
    /// As in backward.
    Down,
}

/// Returns the order at each piece of the template; nothing where it is not between its neighbours.
fn order(pieces: &[Piece]) -> Option<Vec<Order>> {
    const BEFORE: Option<usize> = Some(TEMPLATE - 1);
    const AFTER: Option<usize> = Some(TEMPLATE + 1);
    let mut orders = Vec::new();
    let mut beside = 0;
    for (at, piece) in pieces.iter().enumerate() {
        if piece.layer == BEFORE || piece.layer == AFTER {
            beside += 1;
        }
        if piece.layer != Some(TEMPLATE) {
            continue;
        }
        let around = (pieces.get(at.checked_sub(1)?)?.layer, pieces.get(at + 1)?.layer);
        orders.push(match around {
            (BEFORE, AFTER) => Order::Up,
            (AFTER, BEFORE) => Order::Down,
            _ => return None,
        });
    }
    (beside == 2 * orders.len()).then_some(orders)
}

/// Checks that the same gradients came, at the same moments.
fn same_arrivals(arrivals: &[Arrival], one: &Piece, other: &Piece, alike: &Alike) -> Option<()> {
    let (a, b) = (&arrivals[one.arrivals.clone()], &arrivals[other.arrivals.clone()]);
    let same = |(a, b): (&Arrival, &Arrival)| {
        a.is_like(b) && a.event - one.events.start == b.event - other.events.start
    };
    let own = |arrival: &Arrival| alike.parameter_of(0, arrival.parameter as u32).is_some();
    (a.len() == b.len() && a.iter().zip(b).all(same) && a.iter().all(own)).then_some(())
}

/// A stretched micro-step under way.
struct Made<'a> {
    trace: &'a mut Trace,
    blocks: &'a Blocks,
    alike: &'a Alike,
    /// The blocks as they were recorded.
    recorded: Vec<Block>,
    /// What each of them is called now.
    renamed: Vec<BlockId>,
    /// What the template's are called in each layer that was not run, layer by layer.
    copies: Vec<BlockId>,
    arrivals: Vec<Arrival>,
}

impl<'a> Made<'a> {
    fn new(trace: &'a mut Trace, from: Mark, blocks: &'a Blocks, alike: &'a Alike) -> Made<'a> {
        let recorded = trace.blocks.split_off(from.blocks() as usize);
        let copies = blocks.of_layer[TEMPLATE].len() * alike.left_out();
        Made {
            renamed: vec![BlockId(0); recorded.len()],
            copies: vec![BlockId(0); copies],
            trace,
            blocks,
            alike,
            recorded,
            arrivals: Vec::new(),
        }
    }

    /// Writes the events anew.
    fn write(&mut self, from: Mark, pieces: &[Piece], order: &[Order], arrivals: &[Arrival]) {
        let events = self.trace.events.split_off(from.events);
        let mut phases = self.trace.phases.split_off(from.phases()).into_iter().peekable();
        let of = |piece: &Piece| {
            &events[piece.events.start - from.events..piece.events.end - from.events]
        };
        let mut orders = order.iter();
        for piece in pieces {
            // A phase begins where no layer runs.
            while let Some((_, phase)) =
                phases.next_if(|&(at, _)| piece.layer.is_none() && at <= piece.events.start)
            {
                self.trace.phases.push((self.trace.events.len(), phase));
            }
            let order = (piece.layer == Some(TEMPLATE)).then(|| orders.next()).flatten();
            if order == Some(&Order::Down) {
                for copy in (0..self.alike.left_out()).rev() {
                    self.copy(copy, piece, of(piece), arrivals);
                }
            }
            self.keep(piece, of(piece), arrivals);
            if order == Some(&Order::Up) {
                for copy in 0..self.alike.left_out() {
                    self.copy(copy, piece, of(piece), arrivals);
                }
            }
        }
    }

    fn birth(&mut self, block: Block) -> BlockId {
        let id = BlockId(self.trace.blocks.len() as u32);
        self.trace.blocks.push(block);
        self.trace.events.push(Event::Alloc(id));
        id
    }

    /// Writes a piece as it was recorded, but for what it frees of layers that are there now.
    fn keep(&mut self, piece: &Piece, events: &[Event], arrivals: &[Arrival]) {
        let start = self.trace.events.len();
        for event in events {
            match *event {
                Event::Alloc(id) => {
                    let at = (id.0 - self.blocks.first) as usize;
                    self.renamed[at] = self.birth(self.recorded[at]);
                }
                Event::Free(id) => {
                    let id = self.now(piece, id);
                    self.trace.events.push(Event::Free(id));
                }
            }
        }
        for arrival in &arrivals[piece.arrivals.clone()] {
            let block = arrival.block().map(|id| self.name(id));
            let at = arrival.event - piece.events.start + start;
            self.arrivals.push(arrival.of(arrival.parameter, at, block));
        }
    }

    /// Returns what a block that was recorded is called now.
    fn name(&self, id: BlockId) -> BlockId {
        let at = id.0.checked_sub(self.blocks.first);
        at.map_or(id, |at| self.renamed[at as usize])
    }

    /// Returns the block that is meant now by one that was freed.
    fn now(&self, piece: &Piece, id: BlockId) -> BlockId {
        let (Some(place), Some(layer)) = (self.blocks.place(id), piece.layer) else {
            return self.name(id);
        };
        match (layer, place.layer) {
            (TEMPLATE, other) if other == TEMPLATE + 1 => self.copies[self.of_copy(0, place)],
            (after, TEMPLATE) if after == TEMPLATE + 1 => {
                self.copies[self.of_copy(self.alike.left_out() - 1, place)]
            }
            _ => self.name(id),
        }
    }

    /// Returns where a copy of the template's block is noted.
    fn of_copy(&self, copy: usize, place: Place) -> usize {
        copy * self.blocks.of_layer[TEMPLATE].len() + place.number as usize
    }

    /// Writes the template's piece for a layer that was not run.
    fn copy(&mut self, copy: usize, piece: &Piece, events: &[Event], arrivals: &[Arrival]) {
        let start = self.trace.events.len();
        for event in events {
            let Some(place) = self.blocks.place(event.block()) else { continue };
            match event {
                Event::Alloc(id) => {
                    let block = self.recorded[(id.0 - self.blocks.first) as usize];
                    let module = self.alike.module_of(copy, block.module);
                    let at = self.of_copy(copy, place);
                    self.copies[at] = self.birth(Block { module, ..block });
                }
                Event::Free(_) => {
                    let id = self.beside(copy, place);
                    self.trace.events.push(Event::Free(id));
                }
            }
        }
        for arrival in &arrivals[piece.arrivals.clone()] {
            let parameter = self.alike.parameter_of(copy, arrival.parameter as u32);
            let parameter = parameter.map_or(arrival.parameter, |parameter| parameter as usize);
            let block = arrival.block().and_then(|id| self.blocks.place(id));
            let block = block.map(|place| self.beside(copy, place));
            self.arrivals.push(arrival.of(
                parameter,
                arrival.event - piece.events.start + start,
                block,
            ));
        }
    }

    /// Returns the block of a copy, or of its neighbour, that stands at a place seen from the
    /// template.
    fn beside(&self, copy: usize, place: Place) -> BlockId {
        let recorded = |layer: usize| self.blocks.of_layer[layer][place.number as usize];
        // Layers from the one before the template on: it, the template, the copies, the one after.
        match copy + 2 + place.layer - TEMPLATE {
            0 => self.name(recorded(TEMPLATE - 1)),
            1 => self.name(recorded(TEMPLATE)),
            at if at - 2 < self.alike.left_out() => self.copies[self.of_copy(at - 2, place)],
            _ => self.name(recorded(TEMPLATE + 1)),
        }
    }
}
