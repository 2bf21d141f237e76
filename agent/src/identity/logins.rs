//! The logins that are held, in memory and in their file.
//!
//! Owns which login is whose, and which one is newer. Never asks a provider.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crewtap_core::limits::LOGINS_MAX;
use crewtap_core::secret::Secret;

use super::caller::Key;
use super::login::Login;
use super::relying::Told;
use super::requests::now;
use super::session::Session;
use super::store::{Store, StoreError};

/// Groups of somebody that are shown.
const GROUPS_SHOWN: usize = 64;

/// A login with what hangs on it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: RefCell<Session>,
    /// Shared with the runs that carry it.
    pub(super) login: Arc<Login>,
    /// One renewal at a time: a refresh token that is used twice ends the login at the provider.
    pub(super) renewing: tokio::sync::Mutex<()>,
    /// How many renewals there were.
    pub(super) renewals: Cell<u64>,
    pub(super) retry_at: Cell<Option<Instant>>,
    /// Among those of one second, which came later.
    order: u64,
}

impl Held {
    pub(super) fn is_left_alone(&self) -> bool {
        self.retry_at.get().is_some_and(|at| Instant::now() < at)
    }

    /// Copies, which wipe themselves: a request must not hold the login while it waits.
    pub(super) fn tokens(&self) -> (Option<Secret>, Option<Secret>) {
        let copy = |secret: &Secret| Secret::new(secret.expose().to_vec());
        let session = self.session.borrow();
        (session.refresh.as_ref().map(copy), session.access.as_ref().map(copy))
    }

    pub(super) fn told(&self) -> Told {
        let session = self.session.borrow();
        let person = &session.person;
        let groups = person.groups.iter().take(GROUPS_SHOWN).map(|group| format!("oidc:{}:{group}", session.provider));
        Told {
            provider: session.provider.clone(),
            issuer: session.issuer.clone(),
            identity: format!("oidc:{}:{}", session.provider, person.subject),
            name: person.name.clone(),
            email: person.email.clone(),
            groups: groups.collect(),
            groups_count: person.groups.len(),
            groups_from: person.groups_from.clone(),
            way: session.way,
            auth_time: person.auth_time,
            since: session.since,
            expires: session.until(),
            renewed_until: session.refresh.as_ref().map(|_| session.ends),
            holds: session.holds(now()),
            notes: person.notes.clone(),
        }
    }
}

/// A login's place: whose it is, and at which provider.
type At = (Key, String);

fn at(session: &Session) -> At {
    (session.key, session.provider.clone())
}

/// All of them.
#[derive(Debug)]
pub(super) struct Logins {
    store: Store,
    held: RefCell<HashMap<At, Rc<Held>>>,
    count: Cell<u64>,
}

impl Logins {
    /// None yet.
    pub(super) fn new(store: Store) -> Self {
        Self { store, held: RefCell::default(), count: Cell::new(0) }
    }

    /// Holds a login, without keeping it; the one that it takes the place of.
    pub(super) fn hold(&self, session: Session, login: Arc<Login>) -> (Rc<Held>, Option<Rc<Held>>) {
        let order = self.count.get();
        self.count.set(order.saturating_add(1));
        let at = at(&session);
        let held = Rc::new(Held {
            session: RefCell::new(session),
            login,
            renewing: tokio::sync::Mutex::new(()),
            renewals: Cell::new(0),
            retry_at: Cell::new(None),
            order,
        });
        let before = self.held.borrow_mut().insert(at, held.clone());
        (held, before)
    }

    /// Takes a login back that could not be kept, and puts the one before it where it was.
    pub(super) fn take_back(&self, held: &Rc<Held>, before: Option<Rc<Held>>) {
        self.forget(held);
        if let Some(before) = before {
            let at = at(&before.session.borrow());
            self.held.borrow_mut().insert(at, before);
        }
    }

    /// The one that a new login takes the place of.
    pub(super) fn before(&self, session: &Session) -> Option<Rc<Held>> {
        self.held.borrow().get(&at(session)).cloned()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.borrow().len() >= LOGINS_MAX
    }

    /// The one that is in its place by now: itself, or a newer one; none where somebody has logged out.
    pub(super) fn current(&self, held: &Held) -> Option<Rc<Held>> {
        self.before(&held.session.borrow())
    }

    /// Whether it is still the one that counts: nobody has logged out, or in anew.
    pub(super) fn has(&self, held: &Rc<Held>) -> bool {
        self.current(held).is_some_and(|now| Rc::ptr_eq(&now, held))
    }

    /// Holds it no longer, unless it is another one by now.
    pub(super) fn forget(&self, held: &Rc<Held>) {
        if self.has(held) {
            let at = at(&held.session.borrow());
            self.held.borrow_mut().remove(&at);
        }
    }

    /// Those of a provider that runs carry.
    pub(super) fn carried(&self, provider: &str) -> Vec<Rc<Held>> {
        let held = self.held.borrow();
        let of = held.iter().filter(|((_, of), held)| of == provider && Arc::strong_count(&held.login) > 1);
        of.map(|(_, held)| held.clone()).collect()
    }

    /// The logins of a caller, the newest first.
    pub(super) fn of_key(&self, key: Key) -> Vec<Rc<Held>> {
        self.sweep();
        let held = self.held.borrow();
        let mut found: Vec<Rc<Held>> =
            held.iter().filter(|((of, _), _)| *of == key).map(|(_, held)| held.clone()).collect();
        found.sort_by_key(|held| std::cmp::Reverse((held.session.borrow().since, held.order)));
        found
    }

    /// Forgets what nothing can make count again, a while after its owner could have been told.
    pub(super) fn sweep(&self) {
        let at = now().saturating_sub(3600);
        self.held.borrow_mut().retain(|_, held| {
            let session = held.session.borrow();
            session.key.session.is_there() && !session.is_over(at)
        });
    }

    /// Keeps all that are held, in the order in which they came.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        let held = self.held.borrow();
        let mut all: Vec<&Rc<Held>> = held.values().collect();
        all.sort_by_key(|held| held.order);
        let sessions: Vec<_> = all.iter().map(|held| held.session.borrow()).collect();
        self.store.save(sessions.iter().map(|session| &**session))
    }
}
