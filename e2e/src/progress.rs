//! Tells a person what is going on: a spinner per step on a terminal, plain lines elsewhere.
//! Writes to standard error only; standard output belongs to the answers.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::sync::LazyLock;
use tokio::time::Instant;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One step under way. It ends with `done`, or as failed when dropped before.
pub struct Step {
    title: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    ended: bool,
}

/// Begins a step; `hint` is what a person wants to know while waiting, such as how long it takes.
pub fn step(title: &str, hint: &str) -> Step {
    let text = if hint.is_empty() { title.to_owned() } else { format!("{title} ({hint})") };
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = BARS.add(ProgressBar::new_spinner());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_message(text.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if bar.is_none() {
        line(&format!("... {text}"));
    }
    Step { title: title.to_owned(), bar, begun: Instant::now(), ended: false }
}

/// One line that stands by itself.
pub fn note(text: &str) {
    line(&format!("    {text}"));
}

impl Step {
    pub fn done(mut self) {
        self.end("ok ");
    }

    fn end(&mut self, mark: &str) {
        self.ended = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        line(&format!("{mark} {} ({:.1} s)", self.title, self.begun.elapsed().as_secs_f32()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end("BAD");
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is the one place that speaks to a person")]
fn line(text: &str) {
    BARS.suspend(|| eprintln!("{text}"));
}
