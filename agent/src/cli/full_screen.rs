//! The terminal of a verb that takes the whole screen: taken, and given back however the verb ends.
//!
//! Never draws.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};

/// Signals are read by a thread of its own, which restores the terminal and ends the program: whoever reads keys may not come
/// back any more when the terminal is gone. To be called before there is another thread: they inherit that signals wait.
///
/// # Errors
/// When signals cannot be blocked.
pub(super) fn end_by_signal(drawing: &Arc<Mutex<()>>) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let drawing = drawing.clone();
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            // Nothing is drawn any more.
            let _held = drawing.lock().unwrap_or_else(PoisonError::into_inner);
            ratatui::restore();
            let _ = ratatui::crossterm::execute!(io::stdout(), ratatui::crossterm::cursor::Show);
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Restores the terminal when it goes; `ratatui::try_init` sees to panics.
pub(super) struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
