//! Places for pieces of memory that are needed for a while.

use ondine_graph::{Error, ErrorKind, Result};

use crate::{backend::Space, step::Region};

/// A piece of one space that is needed from one step to another, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) space: u8,
    pub(super) len: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Places pieces so that those needed at the same time do not overlap: the largest first, each as low as it fits.
/// Yields the regions, and the bytes of each space.
pub(super) fn arrange(pieces: &[Piece], spaces: &[Space]) -> Result<(Vec<Region>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..pieces.len()).filter(|&i| pieces[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(pieces[i].len), pieces[i].first));
    let mut regions: Vec<_> = pieces.iter().map(|piece| Region { space: piece.space, ..Region::default() }).collect();
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    let mut arenas = vec![0; spaces.len()];
    let mut busy = Vec::new();
    for i in order {
        let piece = &pieces[i];
        busy.clear();
        let meets = |&&j: &&usize| {
            let other = &pieces[j];
            other.space == piece.space && other.first <= piece.last && piece.first <= other.last
        };
        busy.extend(placed.iter().filter(meets).map(|&j| regions[j]));
        busy.sort_unstable();
        let space = &spaces[usize::from(piece.space)];
        let Some(region) = lowest(piece, &busy, space) else {
            return Err(Error::new(
                ErrorKind::Memory,
                format!("{} bytes fit no memory of {}; ask for less", piece.len, space.name),
            ));
        };
        regions[i] = region;
        let arena = &mut arenas[usize::from(piece.space)];
        *arena = (*arena).max(taken(region, space));
        placed.push(i);
    }
    Ok((regions, arenas))
}

/// Where the memory of a region ends.
pub(super) fn taken(region: Region, space: &Space) -> usize {
    (region.offset + region.len).next_multiple_of(space.align.max(space.granule))
}

/// The lowest place between the busy regions, in their order, that no chunk ends in.
fn lowest(piece: &Piece, busy: &[Region], space: &Space) -> Option<Region> {
    let len = piece.len.checked_next_multiple_of(space.granule).filter(|&len| len <= space.chunk)?;
    // No value crosses from one chunk into the next.
    let within = |offset: usize| {
        let room = space.chunk - offset % space.chunk;
        if len <= room { Some(offset) } else { offset.checked_add(room) }
    };
    let mut offset = 0_usize;
    for region in busy {
        if offset.saturating_add(len) <= region.offset {
            break;
        }
        offset = within(offset.max(taken(*region, space)))?;
    }
    offset.checked_add(len).filter(|&end| end < isize::MAX as usize - space.align)?;
    Some(Region { space: piece.space, offset, len: piece.len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: Space = Space { name: "host", align: 64, granule: 1, chunk: usize::MAX, host: true };
    const STRICT: Space = Space { name: "device", align: 256, granule: 4, chunk: 1024, host: false };

    proptest! {
        #[test]
        fn pieces_alive_together_never_overlap(
            spec in prop::collection::vec((0_u8..2, 0_usize..300, 0_usize..20, 0_usize..6), 1..60)
        ) {
            let spaces = [HOST, STRICT];
            let pieces: Vec<_> = spec
                .into_iter()
                .map(|(space, len, first, span)| Piece { space, len, first, last: first + span })
                .collect();
            let (regions, arenas) = arrange(&pieces, &spaces).unwrap();
            for (i, a) in pieces.iter().enumerate() {
                let space = &spaces[usize::from(a.space)];
                prop_assert_eq!((regions[i].len, regions[i].space), (a.len, a.space));
                prop_assert_eq!(regions[i].offset % space.align, 0);
                prop_assert!(regions[i].offset + a.len <= arenas[usize::from(a.space)]);
                let ends = regions[i].offset + a.len.next_multiple_of(space.granule);
                prop_assert!(a.len == 0 || regions[i].offset / space.chunk == (ends - 1) / space.chunk);
                for (j, b) in pieces.iter().enumerate().skip(i + 1) {
                    let together = a.space == b.space && a.first <= b.last && b.first <= a.last;
                    let (r, s) = (regions[i], regions[j]);
                    let apart = r.len == 0 || s.len == 0 || r.offset + r.len <= s.offset || s.offset + s.len <= r.offset;
                    prop_assert!(!together || apart);
                }
            }
        }
    }

    #[test]
    fn what_is_larger_than_a_chunk_fits_nowhere() {
        let piece = Piece { space: 0, len: 1025, first: 0, last: 0 };
        assert_eq!(arrange(&[piece], &[STRICT]).unwrap_err().kind(), ErrorKind::Memory);
    }
}
