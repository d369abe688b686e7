//! What the demo tells, and the table at its end.

use std::time::{Duration, Instant};

/// Tells the steps and keeps the figures.
pub struct Narrator {
    started: Instant,
    figures: Vec<(String, String)>,
}

impl Narrator {
    /// The clock starts.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            figures: Vec::new(),
        }
    }
    /// A heading.
    pub fn step(&self, number: u32, title: &str) {
        println!(
            "\n[{number:>2}/11 {:>5.1} s] {title}",
            self.started.elapsed().as_secs_f32()
        );
    }
    /// One thing that was seen.
    pub fn line(&self, text: &str) {
        println!("        {text}");
    }
    /// Several lines of a program's output.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("        │ {line}");
        }
    }
    /// A figure for the table.
    pub fn figure(&mut self, what: &str, value: String) {
        self.line(&format!("{what}: {value}"));
        self.figures.push((what.to_owned(), value));
    }
    /// Runs `work`, telling every two seconds that it still goes on.
    pub fn while_waiting<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let what = what.to_owned();
        let ticker = std::thread::spawn(move || {
            let start = Instant::now();
            while wait.recv_timeout(Duration::from_secs(5))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                println!("        … {what} ({:.0} s)", start.elapsed().as_secs_f32());
            }
        });
        let result = work();
        drop(done);
        let _ = ticker.join();
        result
    }
    /// The table.
    pub fn table(&self) {
        let width = self
            .figures
            .iter()
            .map(|(what, _)| what.chars().count())
            .max()
            .unwrap_or(0);
        for (what, value) in &self.figures {
            println!("        {what:<width$}  {value}");
        }
        println!(
            "        {:<width$}  {:.1} s",
            "the whole demo",
            self.started.elapsed().as_secs_f32()
        );
    }
}
