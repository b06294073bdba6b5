//! The suite on the CPU, at every tier that the processor has.

use std::num::NonZeroUsize;

use ondine_reference::suite::{self, cases, uncovered};
use ondine_runtime::{DType, Device, Precision, Tier};

fn devices() -> Vec<Device> {
    let device = Device::cpu(NonZeroUsize::new(2)).unwrap();
    let devices: Vec<_> = Tier::ALL.into_iter().filter_map(|tier| device.with_tier(tier.name()).ok()).collect();
    assert!(!devices.is_empty());
    devices
}

fn passes(precision: Precision) {
    let reports: Vec<_> = devices().into_iter().map(|device| (suite::suite(&device, precision), device)).collect();
    let failed = |report: &suite::Report| report.cases < 1000 || !report.failures.is_empty();
    let failed: Vec<_> = reports.iter().filter(|(report, _)| failed(report)).collect();
    let text: Vec<_> = failed.iter().map(|(report, device)| format!("{device:?}, {precision}: {report}")).collect();
    assert!(failed.is_empty(), "{}", text.concat());
}

#[test]
fn every_operator_has_a_case() {
    assert_eq!(uncovered(&cases(DType::BF16)), Vec::<&str>::new());
}

#[test]
fn operators_do_what_they_mean() {
    passes(Precision::F32);
}

#[test]
fn operators_of_16_bits_do_what_they_mean() {
    passes(Precision::BF16);
}

#[test]
fn operators_of_8_bits_do_what_they_mean() {
    passes(Precision::Int8);
}
