//! Plays a terminal on the own one: keeps the time, takes keys, draws.
//!
//! Restores the terminal however it ends: by a key, an error, a panic, or a signal.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::super::full_screen::{Restored, end_by_signal};
use super::super::screen::Screen;
use super::super::store::Evidence;
use super::view::Player;
use super::{ReplayArgs, offset};
use crate::replay::film::Film;
use crate::replay::take::Take;

/// How often is drawn while something plays.
const TICK: Duration = Duration::from_millis(30);

/// How often is looked at the size while nothing does.
const REST: Duration = Duration::from_millis(500);

/// Plays it until it is left.
///
/// # Errors
/// When the terminal cannot be taken.
pub(super) fn run(evidence: &dyn Evidence, take: &Take, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let from = {
        let mut nothing = std::io::sink();
        let screen = Screen::new(&mut nothing, &args.view);
        args.from.as_deref().map(|from| offset(from, &take.exchange, &screen)).transpose()?
    };
    let zone = if args.view.utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    let drawing = Arc::new(Mutex::new(()));
    end_by_signal(&drawing)?;
    let mut terminal = ratatui::try_init()?;
    let _restored = Restored;
    let mut player = Player::new(Film::new(evidence, take)?, take, zone, args.speed, args.idle_max);
    if let Some(from) = from {
        player.seek(from);
    }
    let mut last = Instant::now();
    loop {
        let held = drawing.lock().unwrap_or_else(PoisonError::into_inner);
        terminal.draw(|frame| player.draw(frame))?;
        drop(held);
        let wait = match () {
            () if player.searches() => Duration::ZERO,
            () if player.plays() => TICK,
            () => REST,
        };
        if event::poll(wait)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && player.key(key)
        {
            return Ok(ExitCode::SUCCESS);
        }
        // What a key took (a long way to go) is no time that passed.
        let now = Instant::now();
        player.tick(now.duration_since(last).min(REST));
        last = Instant::now();
    }
}
