//! Progress on standard error, if a person is watching.

use std::{io::IsTerminal, thread, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the steps of a long work, with the time of a step and the time that remains.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that shows only on a terminal, and never if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg} {spinner}").expect("the template is valid"));
        // The bar's own thread is one that it cannot do without; where there is none to be had, the bar stands still.
        if shown && thread::Builder::new().spawn(|| {}).is_ok() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar }
    }

    /// Names what is being done now.
    pub(crate) fn stage(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }

    /// Shows that `done` of `total` steps are done, the last in `step_time`.
    pub(crate) fn step(&self, done: usize, total: usize, step_time: Duration) {
        if done <= 1 {
            let style = "{msg} {bar:32} {pos}/{len}  {eta} left";
            self.bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
            self.bar.set_length(total as u64);
        }
        self.bar.set_message(format!("denoising, {:.2} s a step", step_time.as_secs_f64()));
        self.bar.set_position(done as u64);
    }

    /// Shows that `done` of `total` pieces of a stage are done, and the time that remains of it.
    pub(crate) fn work(&self, stage: &str, done: usize, total: usize) {
        if done <= 1 {
            let style = "{msg} {bar:32} {pos}/{len}  {eta} left";
            self.bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
            self.bar.reset_eta();
            self.bar.set_length(total as u64);
        }
        self.bar.set_message(stage.to_owned());
        self.bar.set_position(done as u64);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
