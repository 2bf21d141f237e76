//! Takes notes from the thread that is inside of a run to one that never was.
//!
//! Owns the bounded way between the two, and counts what does not fit. The journal opens files by their path: on a
//! thread that has entered the run's mount namespace they would be the run's. Never blocks the one who notes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Notes that wait to be recorded.
const NOTES_MAX: usize = 64;

/// The end that a thread of the run has.
pub(super) struct Notes {
    sender: SyncSender<String>,
    lost: Arc<AtomicU64>,
}

impl Notes {
    /// To be called before the namespace is entered. The thread that records ends when this is dropped.
    ///
    /// # Errors
    /// When there is no thread for this.
    pub(super) fn begin(record: Box<dyn Fn(String) + Send>) -> io::Result<Self> {
        let (sender, received) = sync_channel(NOTES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let uncounted = lost.clone();
        std::thread::Builder::new().name("overlay-notes".into()).spawn(move || {
            let tell_lost = || match uncounted.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => record(format!("{lost} more notes of the overlay came too fast to be recorded")),
            };
            for text in received {
                record(text);
                tell_lost();
            }
            tell_lost();
        })?;
        Ok(Self { sender, lost })
    }

    /// Hands a note over, or counts it where too many wait.
    pub(super) fn note(&self, text: String) {
        if self.sender.try_send(text).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn notes_are_recorded_by_another_thread_and_what_does_not_fit_is_counted() {
        let (arrived, first) = channel();
        let (go, gate) = channel::<()>();
        let (told, recorded) = channel();
        let record = move |text: String| {
            if text == "first" {
                arrived.send(()).unwrap();
                let _opened = gate.recv();
            }
            told.send((std::thread::current().name().map(str::to_owned), text)).unwrap();
        };
        let notes = Notes::begin(Box::new(record)).unwrap();
        notes.note("first".into());
        first.recv().unwrap();
        for _ in 0..NOTES_MAX + 3 {
            notes.note("one of many".into());
        }
        drop((go, notes));
        let recorded: Vec<(Option<String>, String)> = recorded.iter().collect();
        assert!(recorded.iter().all(|(thread, _)| thread.as_deref() == Some("overlay-notes")), "{recorded:?}");
        assert_eq!(recorded.iter().filter(|(_, text)| text == "one of many").count(), NOTES_MAX);
        assert_eq!(recorded.iter().filter(|(_, text)| text.starts_with("3 more notes")).count(), 1, "{recorded:?}");
    }
}
