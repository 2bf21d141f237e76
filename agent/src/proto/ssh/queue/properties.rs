//! What must hold of the queues whatever both sides say, take and close, in whatever order.
#![allow(clippy::unwrap_used)]

use std::sync::Weak;

use proptest::prelude::*;

use super::*;

/// Something that happens on a channel of one side.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Open(u32),
    Say(u32, usize),
    /// Somebody serves the channel from now on.
    Serve(u32),
    Take(usize),
    /// What was taken first is with the other side.
    Give,
    /// The channel is over, for the table.
    Close(u32),
    /// Who serves it has ended, whatever is left.
    Leave(usize),
    Gone,
}

fn deed() -> impl Strategy<Value = Deed> {
    let id = 0..6u32;
    prop_oneof![
        3 => id.clone().prop_map(Deed::Open),
        6 => (id.clone(), 0..SSH_QUEUED_BYTES).prop_map(|(id, len)| Deed::Say(id, len)),
        2 => id.clone().prop_map(Deed::Serve),
        5 => (0..6usize).prop_map(Deed::Take),
        4 => Just(Deed::Give),
        2 => id.prop_map(Deed::Close),
        1 => (0..6usize).prop_map(Deed::Leave),
        1 => Just(Deed::Gone),
    ]
}

/// One side, and who serves its channels.
struct Played {
    half: Arc<Half>,
    /// Every channel that there ever was.
    all: Vec<Weak<Inbox>>,
    served: Vec<Arc<Inbox>>,
    taken: VecDeque<(Weak<Inbox>, usize)>,
}

impl Played {
    fn new(side: Side, meter: &Arc<Meter>) -> Self {
        Self { half: Half::new(side, meter), all: Vec::new(), served: Vec::new(), taken: VecDeque::new() }
    }

    fn play(&mut self, deed: Deed) {
        match deed {
            Deed::Open(id) => {
                let inbox = self.half.open(id).unwrap();
                if !self.all.iter().any(|known| known.as_ptr() == Arc::as_ptr(&inbox)) {
                    self.all.push(Arc::downgrade(&inbox));
                }
            }
            Deed::Say(id, len) => self.half.say(id, Item::Data(vec![0; len].into())),
            Deed::Serve(id) => self.served.extend(self.half.get(id)),
            Deed::Take(at) => {
                if let Some(inbox) = self.served.get(at)
                    && let Some((_, weight)) = inbox.more(|_| true)
                {
                    self.taken.push_back((Arc::downgrade(inbox), weight));
                }
            }
            Deed::Give => {
                if let Some((inbox, weight)) = self.taken.pop_front()
                    && let Some(inbox) = inbox.upgrade()
                {
                    inbox.done(weight);
                }
            }
            Deed::Close(id) => self.half.close(id),
            Deed::Leave(at) if at < self.served.len() => drop(self.served.swap_remove(at)),
            Deed::Leave(_) => {}
            Deed::Gone => self.half.gone(),
        }
    }

    /// What waits on the channels that are still there, counted anew.
    fn weight(&self) -> usize {
        let alive = self.all.iter().filter_map(Weak::upgrade);
        alive
            .map(|inbox| inbox.items().iter().map(Item::weight).sum::<usize>() + inbox.taken.load(Ordering::Relaxed))
            .sum()
    }
}

proptest! {
    #[test]
    fn what_waits_is_counted_to_the_byte_and_decides_who_is_read(deeds in proptest::collection::vec((any::<bool>(), deed()), 0..80)) {
        let meter = Arc::new(Meter::default());
        let mut sides = [Played::new(Side::Client, &meter), Played::new(Side::Server, &meter)];
        for (is_server, deed) in deeds {
            sides[usize::from(is_server)].play(deed);
            let weights = [sides[0].weight(), sides[1].weight()];
            for (side, (mine, others)) in [(Side::Client, (weights[0], weights[1])), (Side::Server, (weights[1], weights[0]))] {
                prop_assert_eq!(meter.of(side).load(Ordering::Relaxed), mine);
                let bound = if others > 0 { SSH_QUEUED_BYTES_MAX } else { SSH_QUEUED_BYTES };
                let may = meter.poll_read(side, &Context::from_waker(Waker::noop())).is_ready();
                prop_assert_eq!(may, mine < bound);
            }
            // Two full directions never wait for each other.
            let full = |weight: usize| weight >= SSH_QUEUED_BYTES_MAX;
            let stuck = !meter.may_read(Side::Client) && !meter.may_read(Side::Server);
            prop_assert!(!stuck || full(weights[0]) || full(weights[1]));
        }
        let [client, server] = sides;
        for side in [client, server] {
            side.half.gone();
            for id in 0..6 {
                side.half.close(id);
            }
        }
        prop_assert_eq!(meter.of(Side::Client).load(Ordering::Relaxed), 0);
        prop_assert_eq!(meter.of(Side::Server).load(Ordering::Relaxed), 0);
    }
}
