//! Products.
use crate::{device::Device, dtype::DType, error::{Result, fail}, op::{Attention, Conv2d, Epilogue, Op}, run::{Operand, Target}};

pub(super) fn scratch_bytes(_op: &Op, _dtype: DType, _inputs: &[&[usize]], _device: &Device) -> usize { 0 }
pub(super) fn linear(_e: Epilogue, _inputs: &[Operand<'_>], _out: Target<'_>, _device: &Device) -> Result<()> { fail!(Unsupported, "x") }
pub(super) fn conv2d(_c: Conv2d, _e: Epilogue, _inputs: &[Operand<'_>], _out: Target<'_>, _device: &Device) -> Result<()> { fail!(Unsupported, "x") }
pub(super) fn matmul(_t: bool, _inputs: &[Operand<'_>], _out: Target<'_>, _s: &mut [u8], _device: &Device) -> Result<()> { fail!(Unsupported, "x") }
pub(super) fn attention(_a: &Attention, _inputs: &[Operand<'_>], _out: Target<'_>, _s: &mut [u8], _device: &Device) -> Result<()> { fail!(Unsupported, "x") }
