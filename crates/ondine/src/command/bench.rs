//! `ondine bench`: how fast networks and pictures of well-known shapes are here, beside what the processor can do.
//!
//! Networks are called as `draw` calls them; pictures are drawn by this very program, started anew for each. Their
//! weights are random, since speed does not depend on them.

pub(super) mod machine;
mod models;
mod network;
mod options;
mod picture;
mod quant;
mod report;
mod text;
pub(super) mod weights;
mod works;

use anyhow::Context;
use ondine_runtime::{Cancel, Device};

use crate::{memory::besides, output, report::usage};
use machine::Machine;
use options::folder;
use report::Told;
use works::{WORKS, What, Work};

pub(super) use options::Bench;

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.clean {
            return models::remove(&folder());
        }
        let works = self.works()?;
        // Before the machine is measured, which takes memory of its own.
        let besides = besides();
        let device = self.running.device(Cancel::default())?;
        for work in &works {
            match &work.what {
                What::Network(network) => network::check_memory(&self, work.name, network, &device)?,
                What::Text(text) => text::check_memory(&self, work.name, text, &device)?,
                What::Picture(_) => {}
            }
        }
        let machine = Machine::measure(device.processor()?);
        if !self.json {
            machine.to_string().lines().for_each(output::line);
        }
        for work in works {
            let report = self.measure(work, &device, &machine, besides).with_context(|| work.name)?;
            if self.json {
                output::json(&report.to_json(&machine));
            } else {
                report.print(&machine);
            }
        }
        Ok(())
    }

    fn measure(&self, work: &Work, device: &Device, machine: &Machine, besides: u64) -> anyhow::Result<Box<dyn Told>> {
        Ok(match &work.what {
            What::Network(network) => Box::new(network::measure(self, work.name, network, device)?),
            What::Picture(picture) => Box::new(picture::measure(self, work.name, picture, machine)?),
            What::Text(text) => Box::new(text::measure(self, work.name, text, device, besides)?),
        })
    }

    fn works(&self) -> anyhow::Result<Vec<&'static Work>> {
        if self.works.is_empty() {
            return Ok(WORKS.iter().filter(|work| !work.large).collect());
        }
        if self.works == ["all"] {
            return Ok(WORKS.iter().collect());
        }
        let find = |name: &String| match WORKS.iter().find(|work| work.name == name) {
            Some(work) => Ok(work),
            None => usage!("there is no work `{name}`; choose {} or all", WORKS.map(|work| work.name).join(", ")),
        };
        self.works.iter().map(find).collect()
    }
}
