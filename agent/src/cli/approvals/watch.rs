//! `approvals watch`: keeps the list fresh on one thread, draws and takes keys on the other.
//!
//! Restores the terminal however it ends: by a key, an error, a panic, or a signal.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::super::full_screen::{Restored, end_by_signal};
use super::lines::Lines;
use super::view::{Effect, View};
use crate::clock;
use crate::control::approvals::{Reply, Request, WATCH_MS_MAX};
use crate::control::{Client, ClientError};

/// How often the countdown is drawn.
const TICK: Duration = Duration::from_millis(200);

/// How long an agent that is not there is waited for before it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the agent.
#[derive(Debug)]
pub(super) enum News {
    /// What waits.
    List { waiting: Vec<crate::approvals::Waiting>, left_off: usize },
    /// It cannot be asked, and why.
    Silent(String),
}

pub(super) fn run(data_dir: &Path) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the agent speaks with root alone: run the same with sudo");
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Ok(by_lines(data_dir));
    }
    let drawing = Arc::new(Mutex::new(()));
    end_by_signal(&drawing)?;
    let news = follow(data_dir.to_owned());
    let mut terminal = ratatui::try_init()?;
    let _restored = Restored;
    let mut view = View::default();
    loop {
        while let Ok(news) = news.try_recv() {
            view.hear(news);
        }
        if let Some(id) = view.wants_content() {
            view.content(&id, content(data_dir, &id));
        }
        let held = drawing.lock().unwrap_or_else(PoisonError::into_inner);
        terminal.draw(|frame| view.draw(frame, clock::now().wall_ns))?;
        drop(held);
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            match view.key(key) {
                Effect::Leave => return Ok(ExitCode::SUCCESS),
                Effect::Answer { id, approve, reason } => view.told(answer(data_dir, id, approve, reason)),
                Effect::Nothing => {}
            }
        }
    }
}

fn by_lines(data_dir: &Path) -> ExitCode {
    let (news, mut lines) = (follow(data_dir.to_owned()), Lines::default());
    let mut silent = false;
    while let Ok(news) = news.recv() {
        let told = match news {
            News::List { waiting, .. } => {
                silent = false;
                lines.tell(&waiting, &mut io::stdout().lock())
            }
            News::Silent(why) => {
                if !std::mem::replace(&mut silent, true) {
                    eprintln!("crewtap: {why}; waiting for one");
                }
                lines.tell(&[], &mut io::stdout().lock())
            }
        };
        // Whoever read it has gone.
        if told.is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Follows the list on a thread of its own, for as long as somebody listens. One list waits at most: the newest is what counts,
/// and the next one brings what was left out.
fn follow(data_dir: PathBuf) -> Receiver<News> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut generation = None;
        loop {
            let news = match ask(&data_dir, generation) {
                Ok((news, now)) => {
                    generation = Some(now);
                    news
                }
                Err(error) => {
                    generation = None;
                    std::thread::sleep(RETRY_INTERVAL);
                    News::Silent(error.to_string())
                }
            };
            if !send(&sender, news) {
                return;
            }
        }
    });
    receiver
}

fn send(sender: &SyncSender<News>, news: News) -> bool {
    match sender.try_send(news) {
        Ok(()) => true,
        Err(TrySendError::Full(news)) => sender.send(news).is_ok(),
        Err(TrySendError::Disconnected(_)) => false,
    }
}

fn ask(data_dir: &Path, generation: Option<u64>) -> Result<(News, u64), ClientError> {
    let mut agent = Client::connect(data_dir)?;
    match agent.approvals(Request::List { generation, wait_ms: WATCH_MS_MAX })? {
        Reply::List { generation, waiting, left_off } => Ok((News::List { waiting, left_off }, generation)),
        other => Err(ClientError::Foreign(format!("unexpected answer {other:?}"))),
    }
}

/// The first piece of what would be sent, or why it cannot be seen.
fn content(data_dir: &Path, id: &str) -> String {
    let shown =
        Client::connect(data_dir).and_then(|mut agent| agent.approvals(Request::Show { id: id.into(), from: 0 }));
    match shown {
        Ok(Reply::Shown { page, .. }) if page.next.is_some() => {
            format!("{}\n… there is more: crewtap approvals show {id}", page.text)
        }
        Ok(Reply::Shown { page, .. }) => page.text,
        Ok(other) => format!("unexpected answer {other:?}"),
        Err(error) => error.to_string(),
    }
}

fn answer(data_dir: &Path, id: String, approve: bool, reason: Option<String>) -> String {
    let request = Request::Answer { id, approve, reason };
    match Client::connect(data_dir).and_then(|mut agent| agent.approvals(request)) {
        Ok(Reply::Answered { id, settled, missing }) => format!("{id} {}", super::answered(approve, settled, missing)),
        Ok(other) => format!("unexpected answer {other:?}"),
        Err(error) => error.to_string(),
    }
}
