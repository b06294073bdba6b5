//! Regions of feature maps, and which of overlapping boxes stay.

use ondine_graph::{Region, Regions, Result, fail};
use ondine_kernels as k;

use super::{
    operand::{Operand, Target},
    processor::Processor,
};

pub(super) fn suppress(most: f64, boxes: Operand<'_>, out: &mut Target<'_>) -> Result<()> {
    k::suppress(most, boxes.view(), out.bytes);
    Ok(())
}

pub(super) fn read(
    regions: &Regions,
    x: Operand<'_>,
    boxes: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let &[batch, height, width, channels] = x.shape else { fail!(Shape, "regions of rank {}", x.shape.len()) };
    let kind = match regions.how {
        Region::Mean { samples, edges, apart } => k::RegionKind::Mean { samples, edges, apart },
        Region::Largest => k::RegionKind::Largest,
        Region::Touched => k::RegionKind::Touched,
    };
    let map = [batch, height, width, channels];
    let shape = k::RegionShape { map, bins: regions.bins, scale: regions.scale, kind };
    match k::regions(&device.cpu, &shape, x.view(), boxes.view(), out.view()) {
        Some(astray) => fail!(Shape, "region {astray} is of a picture that is not among the {batch}"),
        None => Ok(()),
    }
}
