//! Which layers to give fewer bits first: where the fewest errors are paid for a byte.

use super::format::Format;

/// A format of a layer, and what it costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// None keeps the layer as it is.
    pub(super) format: Option<Format>,
    pub(super) bytes: u64,
    /// Squared error of the function's results, relative to their squared peak.
    pub(super) noise: f64,
}

/// The formats of a layer that are worth something: each has fewer bytes than the one before, and the error paid for a
/// byte grows from step to step.
#[derive(Clone, Debug)]
pub(super) struct Ladder(Vec<Candidate>);

impl Ladder {
    /// The lower convex hull of the candidates.
    pub(super) fn new(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by(|a, b| a.noise.total_cmp(&b.noise).then(a.bytes.cmp(&b.bytes)));
        let mut hull: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            if hull.last().is_some_and(|last| candidate.bytes >= last.bytes) {
                continue;
            }
            while let [.., before, last] = hull[..] {
                if slope(&before, &last) < slope(&last, &candidate) {
                    break;
                }
                hull.pop();
            }
            hull.push(candidate);
        }
        Self(hull)
    }
}

/// Error for a byte, from one candidate to the next.
fn slope(from: &Candidate, to: &Candidate) -> f64 {
    (to.noise - from.noise) / (from.bytes - to.bytes) as f64
}

/// The layers in the order in which they go a step down their ladders.
pub(super) fn steps(ladders: &[Ladder]) -> Vec<usize> {
    let of_layer = |(index, ladder): (usize, &Ladder)| {
        let slopes: Vec<_> = ladder.0.windows(2).map(|pair| (slope(&pair[0], &pair[1]), index)).collect();
        slopes
    };
    let mut steps: Vec<_> = ladders.iter().enumerate().flat_map(of_layer).collect();
    // A stable order: the steps of one layer, whose slopes grow, stay in theirs.
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    steps.into_iter().map(|(_, index)| index).collect()
}

/// Where each layer is after these steps.
fn places<'a>(ladders: &'a [Ladder], steps: &[usize]) -> impl Iterator<Item = &'a Candidate> {
    let mut depths = vec![0; ladders.len()];
    steps.iter().for_each(|&index| depths[index] += 1);
    ladders.iter().zip(depths).map(|(ladder, depth)| &ladder.0[depth])
}

pub(super) fn formats(ladders: &[Ladder], steps: &[usize]) -> Vec<Option<Format>> {
    places(ladders, steps).map(|candidate| candidate.format).collect()
}

pub(super) fn bytes(ladders: &[Ladder], steps: &[usize]) -> u64 {
    places(ladders, steps).map(|candidate| candidate.bytes).sum()
}

pub(super) fn noise(ladders: &[Ladder], steps: &[usize]) -> f64 {
    places(ladders, steps).map(|candidate| candidate.noise).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(points: &[(u64, f64)]) -> Ladder {
        Ladder::new(points.iter().map(|&(bytes, noise)| Candidate { format: None, bytes, noise }).collect())
    }

    #[test]
    fn only_formats_on_the_hull_are_steps() {
        let hull = ladder(&[(100, 0.0), (50, 1.0), (60, 5.0), (40, 9.0), (20, 10.0)]);
        assert_eq!(hull.0.iter().map(|c| c.bytes).collect::<Vec<_>>(), [100, 50, 20]);
    }

    #[test]
    fn the_cheapest_steps_come_first() {
        let ladders = [ladder(&[(100, 0.0), (50, 5.0), (25, 50.0)]), ladder(&[(100, 0.0), (50, 1.0), (25, 4.0)])];
        assert_eq!(steps(&ladders), [1, 0, 1, 0]);
        let after = &steps(&ladders)[..3];
        assert_eq!((bytes(&ladders, after), noise(&ladders, after)), (75, 9.0));
    }

    #[test]
    fn a_layer_with_one_format_has_no_steps() {
        assert!(steps(&[ladder(&[(10, 3.0)])]).is_empty());
    }
}
