//! The suite on the CPU, at every tier that the processor has.

use std::num::NonZeroUsize;

use ondine_graph::DType;
use ondine_reference::suite::{self, cases, uncovered};
use ondine_runtime::{Device, Precision, Processor, Tier};

fn devices() -> Vec<Device> {
    let processor = Processor::new(NonZeroUsize::new(2)).unwrap();
    let tiers = Tier::ALL.into_iter().filter_map(|tier| processor.with_tier(tier.name()).ok());
    let devices: Vec<Device> = tiers.map(Device::from).collect();
    assert!(!devices.is_empty());
    devices
}

fn passes(precision: Precision) {
    let reports: Vec<_> = devices().iter().map(|device| suite::suite(device, precision)).collect();
    let failed = reports.iter().filter(|report| report.cases < 1000 || !report.failures.is_empty());
    let failed: Vec<String> = failed.map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.concat());
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
