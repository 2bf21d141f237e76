//! Every execve of a run is held until the roots that the program will read are laid.
//!
//! Owns the kernel's queue (fanotify), the marks on the run's mounts, and the watchdog that answers when the one who
//! should cannot. Never refuses an execve, and never holds one longer than [`HOLD_MAX`], a defect of its own included.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::execution::Execution;
use super::ground::SOURCE;
use super::keeper::Keeper;

/// How long an execve waits at most: a file system of the run that does not answer must not stop the run.
pub const HOLD_MAX: Duration = Duration::from_secs(5);

/// Nice value of the thread that answers.
const PRIORITY: i32 = -10;

/// How often the watchdog looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How old an execve is when the watchdog lets it go: it may have been up to one interval in the kernel's queue, and the
/// watchdog looks once an interval.
const AGE_MAX: Duration = HOLD_MAX.saturating_sub(WATCH_INTERVAL.saturating_mul(2));

/// Execves that wait at one time; each has a descriptor of the agent. What comes beyond is let go as it is.
const WAITING_MAX: usize = 1024;

/// Times that the kernel's queue is read in one go, 170 execves each.
const READS_MAX: usize = 64;

/// Loaders that are not asked about again: a system has one for each kind of program. Each mark keeps its file in memory.
const LOADERS_MAX: usize = 32;

/// Bytes of the mount table that are read.
const MOUNTS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes of a file that tell whether it is a script; what the kernel itself reads.
const SHEBANG_BYTES: usize = 256;

/// File systems on which nothing can be executed.
const WITHOUT_PROGRAMS: [&str; 20] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "bpf",
    "tracefs",
    "debugfs",
    "securityfs",
    "pstore",
    "configfs",
    "hugetlbfs",
    "nsfs",
    "autofs",
    "binfmt_misc",
    "fusectl",
    "efivarfs",
    "rpc_pipefs",
    "selinuxfs",
];

/// Execves that were taken from the kernel and wait for an answer.
struct Desk {
    fanotify: Fanotify,
    waiting: Mutex<Waiting>,
    /// Readable when the watchdog has put something into the queue.
    wake: OwnedFd,
    /// Loaders that are ignored.
    loaders: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Held>,
    /// Since when the worker has been at work on one execve; none while it waits for the kernel.
    busy: Option<Instant>,
}

/// One execve.
struct Held {
    event: Arc<FanotifyEvent>,
    /// When it was taken from the kernel.
    since: Instant,
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allow(&self, event: &FanotifyEvent) {
        if let Some(fd) = event.fd()
            && let Err(errno) = self.fanotify.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW))
            && errno != Errno::ENOENT
        {
            tracing::warn!(%errno, "a held execve was not answered");
        }
    }

    /// Asks not to be told of this file again: the loader is opened for every program. Only of the system's own: a mark
    /// pins the file, and whoever may write to a file that is ignored executes unheld.
    fn ignore(&self, file: BorrowedFd<'_>) {
        let is_of_system = rustix::fs::fstat(file).is_ok_and(|found| found.st_uid == 0 && found.st_mode & 0o022 == 0);
        if !is_of_system || self.loaders.load(Ordering::Relaxed) >= LOADERS_MAX {
            return;
        }
        self.loaders.fetch_add(1, Ordering::Relaxed);
        let survives = MarkFlags::FAN_MARK_IGNORED_MASK | MarkFlags::FAN_MARK_IGNORED_SURV_MODIFY;
        let flags = MarkFlags::FAN_MARK_ADD | survives;
        if let Err(errno) = self.fanotify.mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, file, None::<&Path>) {
            tracing::debug!(%errno, "the loader is held, too");
        }
    }

    /// Takes what the kernel has, up to what may wait; what is beyond that is let go.
    fn take(&self) -> io::Result<()> {
        for _ in 0..READS_MAX {
            let events = match self.fanotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let since = Instant::now();
            let mut waiting = self.waiting();
            for event in events {
                if waiting.queue.len() < WAITING_MAX {
                    waiting.queue.push_back(Held { event: Arc::new(event), since });
                } else {
                    self.allow(&event);
                }
            }
        }
        Ok(())
    }

    /// Takes and lets go what has waited too long: everything when the worker hangs. How many, and whether it does.
    fn release(&self) -> (usize, bool) {
        if self.waiting().busy.is_none() {
            return (0, false);
        }
        // Otherwise what the kernel still has would not grow old.
        let _failed = self.take();
        let mut waiting = self.waiting();
        let hangs = waiting.busy.is_some_and(|since| since.elapsed() >= AGE_MAX);
        let is_due = |held: &Held| hangs || held.since.elapsed() >= AGE_MAX;
        let (due, left): (Vec<Held>, Vec<Held>) = waiting.queue.drain(..).partition(is_due);
        waiting.queue = left.into();
        drop(waiting);
        // The worker may have found an empty queue in between, and sleep.
        let _full = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        for held in &due {
            self.allow(&held.event);
        }
        (due.len(), hangs)
    }
}

/// See the module.
pub(super) struct Hold {
    desk: Arc<Desk>,
    mounts: File,
    marked: BTreeSet<(u64, PathBuf)>,
    /// Ends the watchdog when it is dropped, a panic included.
    _watch: SyncSender<()>,
}

impl Hold {
    /// Marks every mount of the run; from here on each execve waits. To be called on the thread that is in the run's
    /// mount namespace, with `/proc` as working directory.
    ///
    /// # Errors
    /// When this kernel has no permission events.
    pub(super) fn begin() -> io::Result<Self> {
        // A program waits for this thread each time: on a busy machine it must not stand in line.
        let _as_before = rustix::process::setpriority_process(None, PRIORITY);
        let class = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let flags = class | InitFlags::FAN_REPORT_TID | InitFlags::FAN_UNLIMITED_MARKS;
        let files = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let fanotify = Fanotify::init(flags, files)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let desk = Arc::new(Desk { fanotify, waiting: Mutex::default(), wake, loaders: AtomicUsize::new(0) });
        let mounts = File::open("thread-self/mountinfo")?;
        let (watch, watched) = sync_channel(0);
        let watchdog = desk.clone();
        let (tell, told) = sync_channel(1);
        std::thread::Builder::new().name("overlay-watch".into()).spawn(move || {
            // A thread that shares its root and working directory with another one may not change namespace.
            let _gone = tell.send(unshare(CloneFlags::CLONE_FS));
            guard(&watchdog, &watched);
        })?;
        told.recv().map_err(io::Error::other)??;
        let mut hold = Self { desk, mounts, marked: BTreeSet::new(), _watch: watch };
        hold.mark()?;
        Ok(hold)
    }

    /// Marks mounts that were not there before.
    fn mark(&mut self) -> io::Result<()> {
        let mut text = String::new();
        self.mounts.rewind()?;
        (&self.mounts).take(MOUNTS_BYTES_MAX).read_to_string(&mut text)?;
        let there: BTreeSet<(u64, PathBuf)> = text.lines().filter_map(executable_mount).collect();
        for (_, path) in there.difference(&self.marked) {
            let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_MOUNT;
            let here = rustix::fs::CWD;
            if let Err(errno) = self.desk.fanotify.mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, here, Some(path)) {
                tracing::debug!(%errno, path = %path.display(), "a mount of a run is not marked");
            }
        }
        self.marked = there;
        Ok(())
    }

    /// Answers until `stop` is closed.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub(super) fn serve(mut self, keeper: &mut Keeper, stop: &OwnedFd) -> io::Result<()> {
        loop {
            let mounts_changed = self.wait(keeper, stop)?;
            self.desk.waiting().busy = Some(Instant::now());
            if is_closed(stop)? {
                return Ok(());
            }
            keeper.bury_installers();
            if mounts_changed {
                self.mark()?;
            }
            self.desk.take()?;
            while let Some(event) = self.next() {
                judge(&self.desk, &event, keeper);
                self.answer(&event);
            }
        }
    }

    /// Whether mounts have come or gone; the kernel tells it once.
    fn wait(&self, keeper: &Keeper, stop: &OwnedFd) -> io::Result<bool> {
        let mut watched = vec![
            PollFd::new(&self.mounts, PollFlags::PRI),
            PollFd::new(&self.desk.fanotify, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(&self.desk.wake, PollFlags::IN),
        ];
        watched.extend(keeper.installers().iter().map(|installer| PollFd::new(&installer.ending, PollFlags::IN)));
        match poll(&mut watched, None) {
            Ok(_) => {
                let mut woken = [0; 8];
                let _none = rustix::io::read(&self.desk.wake, &mut woken);
                Ok(watched.first().is_some_and(|mounts| !mounts.revents().is_empty()))
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The oldest that waits; it stays in the queue, where the watchdog finds it.
    fn next(&self) -> Option<Arc<FanotifyEvent>> {
        let mut waiting = self.desk.waiting();
        let event = waiting.queue.front().map(|held| held.event.clone());
        waiting.busy = event.is_some().then(Instant::now);
        event
    }

    /// Unless the watchdog has answered already.
    fn answer(&self, event: &Arc<FanotifyEvent>) {
        let mut waiting = self.desk.waiting();
        if waiting.queue.front().is_some_and(|front| Arc::ptr_eq(&front.event, event)) {
            waiting.queue.pop_front();
            drop(waiting);
            self.desk.allow(event);
        }
    }
}

fn is_closed(stop: &OwnedFd) -> io::Result<bool> {
    let mut watched = [PollFd::new(stop, PollFlags::IN)];
    Ok(poll(&mut watched, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

/// Lays what one execve needs. What cannot be found out is executed as it is.
fn judge(desk: &Desk, event: &FanotifyEvent, keeper: &mut Keeper) {
    let (Some(fd), Ok(task)) = (event.fd(), u32::try_from(event.pid())) else { return };
    let Ok(real) = fs::read_link(format!("thread-self/fd/{}", fd.as_raw_fd())) else { return };
    if is_loader(&real) {
        desk.ignore(fd);
        return;
    }
    let Some(execution) = Execution::of(task) else { return };
    let mut start = [0; SHEBANG_BYTES];
    let read = fd.try_clone_to_owned().and_then(|file| File::from(file).read_at(&mut start, 0)).unwrap_or(0);
    keeper.prepare(task, &execution, start.get(..read).unwrap_or_default(), &real);
}

/// The dynamic loader is opened for every program, after the program itself.
fn is_loader(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ["ld-linux", "ld-musl", "ld.so", "ld64.so", "ld-2."].iter().any(|begin| name.starts_with(begin))
}

/// Answers for a worker that does not come back, until it does.
fn guard(desk: &Desk, watched: &Receiver<()>) {
    let mut is_told = false;
    loop {
        match watched.recv_timeout(WATCH_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            // The worker has ended; what it held is let go when the last descriptor of the queue is closed.
            _ => return,
        }
        loop {
            let (released, hangs) = desk.release();
            if released > 0 && !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    "the overlay of a run is slow or hangs in a file: programs start without being prepared"
                );
            }
            if !hangs {
                break;
            }
            let mut waits = [PollFd::new(&desk.fanotify, PollFlags::IN)];
            let most = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _again = poll(&mut waits, Some(&most));
            if watched.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
        }
    }
}

/// Number and place of a mount from which something can be executed, of a line of `/proc/PID/mountinfo`.
fn executable_mount(line: &str) -> Option<(u64, PathBuf)> {
    let (mount, source) = line.split_once(" - ")?;
    let mut fields = source.split(' ');
    let (kind, name) = (fields.next()?, fields.next().unwrap_or_default());
    if WITHOUT_PROGRAMS.contains(&kind) || name == SOURCE {
        return None;
    }
    let mut fields = mount.split(' ');
    let number = fields.next()?.parse().ok()?;
    Some((number, unescaped(fields.nth(3)?)))
}

/// Blanks and backslashes are octal in the table.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if *byte == b'\\' => {
                bytes.push(escaped);
                rest = behind.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(test)]
mod tests;
