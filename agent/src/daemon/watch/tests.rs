//! What becomes of a report that the journal does not take.

use std::cell::RefCell;

use super::*;

fn started() -> Body {
    let process = Process { pid: 7, ppid: 3, start_ticks: 9, argv: vec!["x".repeat(10)], ..Process::default() };
    ProcessStarted { start: Start::Exec, process, filename: Some("/bin/x".into()) }.into()
}

fn too_large() -> Unrecorded {
    Unrecorded(JournalError::TooLarge { bytes: 2, max: 1 })
}

#[test]
fn a_process_that_does_not_fit_is_recorded_without_its_arguments() {
    let (counts, kept) = (Counts::default(), RefCell::new(Vec::new()));
    let outcome = record_or_count(&counts, started(), |body| match &body {
        Body::ProcessStarted(started) if started.process.argv.is_empty() => {
            kept.borrow_mut().push(body);
            Ok(())
        }
        _ => Err(too_large()),
    });
    assert!(outcome.is_ok());
    assert_eq!(Counts::get(&counts.lost), 0);
    let kept = kept.into_inner();
    let [Body::ProcessStarted(least)] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((least.process.pid, least.process.ppid, least.process.start_ticks), (7, 3, 9));
    assert_eq!(least.filename.as_deref(), Some("/bin/x"));
}

#[test]
fn what_cannot_be_recorded_at_all_is_counted_unless_the_journal_is_closed() {
    let counts = Counts::default();
    assert!(record_or_count(&counts, started(), |_| Err(too_large())).is_err());
    assert_eq!(Counts::get(&counts.lost), 1);
    let exited: Body = ProcessExited { pid: 7, status: None }.into();
    assert!(record_or_count(&counts, exited, |_| Err(too_large())).is_err());
    assert_eq!(Counts::get(&counts.lost), 2);
    assert!(record_or_count(&counts, started(), |_| Err(Unrecorded(JournalError::Closed))).is_err());
    assert_eq!(Counts::get(&counts.lost), 2);
}
