//! A recorded micro-step of a few alike layers, stretched to all of them.
//!
//! Five layers were run. The events of the one in the middle are recorded once more for each layer
//! that was not, on new blocks: after it where layers follow each other, before it in backward. That
//! the layers beside it recorded the same is checked first, event by event: the same sizes, the same
//! births, and frees of the same blocks of the same neighbour. Where it does not hold, nothing is
//! stretched and every layer has to be run.

use std::ops::Range;

use crate::step::alike::{Alike, RUN, TEMPLATE};
use crate::step::repeat::Arrival;
use crate::step::tensor::Mark;
use crate::trace::{BlockId, Event, Trace};

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

/// Stretches the events after `from`; returns whether it could, with the arrivals of all layers.
///
/// `spans` cover the events after `from` without gaps.
pub fn stretch(
    trace: &mut Trace,
    from: Mark,
    spans: &[Span],
    arrivals: Vec<Arrival>,
    alike: &Alike,
) -> Option<Vec<Arrival>> {
    let blocks = Blocks::of(trace, from, spans);
    let pieces = pieces(trace, spans, &blocks, &arrivals);
    let order = order(&pieces)?;
    blocks.are_alike(trace, alike)?;
    for piece in &pieces {
        blocks.are_near(trace, piece)?;
    }
    for (at, _) in pieces.iter().enumerate().filter(|(_, piece)| piece.layer == Some(TEMPLATE)) {
        for beside in [at - 1, at + 1] {
            blocks.same_events(trace, &pieces[at], &pieces[beside])?;
            same_arrivals(&arrivals, &pieces[at], &pieces[beside], alike)?;
        }
    }
    let copies = blocks.copies(trace, alike);
    let mut made = Made { trace, blocks: &blocks, copies, arrivals: Vec::new(), alike };
    made.write(from, &pieces, &order, arrivals);
    Some(made.arrivals)
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

    /// Makes the blocks of the layers that were not run; returns the first of each.
    fn copies(&self, trace: &mut Trace, alike: &Alike) -> Vec<u32> {
        let template = &self.of_layer[TEMPLATE];
        let mut firsts = Vec::with_capacity(alike.left_out());
        trace.blocks.reserve(template.len() * alike.left_out());
        for left_out in 0..alike.left_out() {
            firsts.push(trace.blocks.len() as u32);
            for id in template {
                let mut block = trace.blocks[id.0 as usize];
                block.module = alike.module_of(left_out, block.module);
                trace.blocks.push(block);
            }
        }
        firsts
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
    /// The first block of each layer that was not run.
    copies: Vec<u32>,
    arrivals: Vec<Arrival>,
    alike: &'a Alike,
}

impl Made<'_> {
    /// Writes the events anew.
    fn write(&mut self, from: Mark, pieces: &[Piece], order: &[Order], arrivals: Vec<Arrival>) {
        let events = self.trace.events.split_off(from.events);
        let mut phases = self.trace.phases.split_off(from.phases()).into_iter().peekable();
        let event = |at: usize| events[at - from.events];
        let mut orders = order.iter();
        for piece in pieces {
            // A phase begins where no layer runs.
            while let Some((_, phase)) =
                phases.next_if(|&(at, _)| piece.layer.is_none() && at <= piece.events.start)
            {
                self.trace.phases.push((self.trace.events.len(), phase));
            }
            let many = self.copies.len();
            let order = (piece.layer == Some(TEMPLATE)).then(|| orders.next()).flatten();
            if order == Some(&Order::Down) {
                (0..many).rev().for_each(|copy| self.copy(copy, piece, event, &arrivals));
            }
            self.keep(piece, event, &arrivals);
            if order == Some(&Order::Up) {
                (0..many).for_each(|copy| self.copy(copy, piece, event, &arrivals));
            }
        }
    }

    /// Writes a piece as it was recorded, but for what it frees of layers that are there now.
    fn keep(&mut self, piece: &Piece, event: impl Fn(usize) -> Event, arrivals: &[Arrival]) {
        let start = self.trace.events.len();
        for at in piece.events.clone() {
            let kept = match event(at) {
                Event::Free(id) => Event::Free(self.now(piece, id)),
                birth @ Event::Alloc(_) => birth,
            };
            self.trace.events.push(kept);
        }
        for arrival in &arrivals[piece.arrivals.clone()] {
            self.arrivals.push(arrival.at(arrival.event - piece.events.start + start));
        }
    }

    /// Returns the block that is meant now by one that was freed.
    fn now(&self, piece: &Piece, id: BlockId) -> BlockId {
        let (Some(place), Some(layer)) = (self.blocks.place(id), piece.layer) else { return id };
        match (layer, place.layer) {
            (TEMPLATE, other) if other == TEMPLATE + 1 => self.of_copy(0, place.number),
            (after, TEMPLATE) if after == TEMPLATE + 1 => {
                self.of_copy(self.copies.len() - 1, place.number)
            }
            _ => id,
        }
    }

    fn of_copy(&self, copy: usize, number: u32) -> BlockId {
        BlockId(self.copies[copy] + number)
    }

    /// Writes the template's piece for a layer that was not run.
    fn copy(
        &mut self,
        copy: usize,
        piece: &Piece,
        event: impl Fn(usize) -> Event,
        arrivals: &[Arrival],
    ) {
        let start = self.trace.events.len();
        for at in piece.events.clone() {
            let id = event(at).block();
            let block = self.blocks.place(id).map_or(id, |place| self.beside(copy, place));
            self.trace.events.push(match event(at) {
                Event::Alloc(_) => Event::Alloc(block),
                Event::Free(_) => Event::Free(block),
            });
        }
        for arrival in &arrivals[piece.arrivals.clone()] {
            let parameter = self.alike.parameter_of(copy, arrival.parameter as u32);
            let block = arrival.block().and_then(|id| self.blocks.place(id));
            let block = block.map(|place| self.beside(copy, place));
            let parameter = parameter.map_or(arrival.parameter, |parameter| parameter as usize);
            let at = arrival.event - piece.events.start + start;
            self.arrivals.push(arrival.of(parameter, at, block));
        }
    }

    /// Returns the block of a copy, or of its neighbour, that stands at a place seen from the
    /// template.
    fn beside(&self, copy: usize, place: Place) -> BlockId {
        // Layers from the one before the template on: it, the template, the copies, the one after.
        let at = copy + 2 + place.layer - TEMPLATE;
        let number = place.number;
        match at {
            0 => self.blocks.of_layer[TEMPLATE - 1][number as usize],
            1 => self.blocks.of_layer[TEMPLATE][number as usize],
            at if at - 2 < self.copies.len() => self.of_copy(at - 2, number),
            _ => self.blocks.of_layer[TEMPLATE + 1][number as usize],
        }
    }
}
