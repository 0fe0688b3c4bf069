//! The positions of the samples of a request in their call, so that a refused sample can be named.

/// The positions of a request's samples in their call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Positions {
    /// The samples follow each other in the call, from this position on.
    From(usize),
    /// The position of each sample, because samples of other shards stand between them.
    Each(Vec<u32>),
}

impl Positions {
    /// Returns the position of a sample of the request.
    pub(crate) fn of(&self, index: usize) -> usize {
        match self {
            Self::From(first) => first + index,
            // A call of more samples than a `u32` counts does not fit into memory.
            Self::Each(positions) => positions
                .get(index)
                .and_then(|position| usize::try_from(*position).ok())
                .unwrap_or(index),
        }
    }

    /// Returns the positions of the samples in a range of the request.
    pub(crate) fn of_part(&self, first: usize, count: usize) -> Self {
        match self {
            Self::From(start) => Self::From(start + first),
            Self::Each(positions) => Self::Each(positions.iter().skip(first).take(count).copied().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_positions_of_its_samples() {
        for positions in [Positions::From(3), Positions::Each(vec![3, 4, 5, 6, 7])] {
            let part = positions.of_part(2, 2);
            assert_eq!([part.of(0), part.of(1)], [positions.of(2), positions.of(3)]);
            assert_eq!(part.of(1), 6);
        }
    }
}
