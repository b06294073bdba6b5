//! The built-in model on the strict device: the same picture as on the processor, to the rounding of f32.

use std::sync::Arc;

use ondine::{
    genmoji,
    image::{pipeline::TextToImage, request::Request},
    runtime::{Device, NDArray, Precision},
};
use ondine_reference::Reference;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Everything that a drawing of two steps came by.
fn drawn(device: Device) -> Result<Vec<(String, NDArray)>, Box<dyn std::error::Error>> {
    let mut model = TextToImage::open(genmoji::source(), device, None)?;
    model.set_precision(Precision::F32);
    let request = Request { steps: Some(2), keep_latents: true, ..Request::new("red heart") };
    Ok(model.draw(&request, &mut |_| {})?.dump()?)
}

#[test]
fn the_strict_device_draws_the_same_picture() -> Outcome {
    // The last maps of the decoder are the largest values.
    let strict = drawn(Device::new(Arc::new(Reference::new(7, 4 << 20))))?;
    let processor = drawn(Device::cpu(None)?)?;
    assert_eq!(strict.len(), processor.len());
    for ((name, found), (_, wanted)) in strict.iter().zip(&processor) {
        let pairs = found.to_f32().into_iter().zip(wanted.to_f32());
        let square = |(a, b): (f32, f32)| [f64::from(a - b).powi(2), f64::from(b).powi(2)];
        let [off, all] = pairs.map(square).fold([0.0; 2], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
        // 90 dB.
        assert!(off <= 1e-9 * all, "{name} is off by {off:e} of {all:e}");
    }
    Ok(())
}
