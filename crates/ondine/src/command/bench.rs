//! `ondine bench`: how fast networks and pictures of well-known shapes are here, beside what the processor can do.
//!
//! Networks are called as `draw` calls them; pictures are drawn by this very program, started anew for each. Their
//! weights are random, since speed does not depend on them. A language model can be one of the user's own.

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
use ondine::model::language;
use ondine_models::Language;
use ondine_runtime::{Cancel, Device};

use crate::{memory::besides, output, report::usage};
use machine::Machine;
use options::folder;
use report::Told;
use text::Subject;
use works::{WORKS, What, Work};

pub(super) use options::Bench;

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.clean {
            return models::remove(&folder());
        }
        let works = self.works()?;
        let own =
            self.model.as_deref().map(|name| anyhow::Ok(Subject::File(Box::new(Language::open(&language(name)?)?))));
        let own = own.transpose()?;
        // Before the machine is measured, which takes memory of its own.
        let besides = besides();
        let device = self.running.device(Cancel::default())?;
        for work in &works {
            match &work.what {
                What::Network(network) => network::check_memory(&self, work.name, network, &device)?,
                What::Text(text) => text::check_memory(&self, &Subject::Shape(work.name, text), &device)?,
                What::Picture(_) => {}
            }
        }
        own.iter().try_for_each(|own| text::check_memory(&self, own, &device))?;
        let machine = Machine::measure(device.processor()?);
        if !self.json {
            machine.to_string().lines().for_each(output::line);
        }
        let tell = |report: &dyn Told| {
            if self.json {
                output::json(&report.to_json(&machine));
            } else {
                report.print(&machine);
            }
        };
        for work in works {
            tell(&*self.measure(work, &device, &machine, besides).with_context(|| work.name)?);
        }
        if let Some(own) = &own {
            tell(&text::measure(&self, own, &device, besides)?);
        }
        Ok(())
    }

    fn measure(&self, work: &Work, device: &Device, machine: &Machine, besides: u64) -> anyhow::Result<Box<dyn Told>> {
        Ok(match &work.what {
            What::Network(network) => Box::new(network::measure(self, work.name, network, device)?),
            What::Picture(picture) => Box::new(picture::measure(self, work.name, picture, machine)?),
            What::Text(text) => Box::new(text::measure(self, &Subject::Shape(work.name, text), device, besides)?),
        })
    }

    fn works(&self) -> anyhow::Result<Vec<&'static Work>> {
        if self.model.is_some() {
            return Ok(Vec::new());
        }
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
