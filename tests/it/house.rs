//! One real driver between a client and a server, with a judge that a test writes. What redirects connections is left out:
//! clients connect to it themselves, inside the host's own namespace.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crewtap::capture::listen::Listeners;
use crewtap::capture::netns::NetworkNamespace;
use crewtap::clock::Zone;
use crewtap::gate::{Gate, Judge};
use crewtap::journal::{Journal, Options};
use crewtap::leg::Leg;
use crewtap::namespace::Namespace;
use crewtap::proto::{self, Legs};
use crewtap::recorder::Recorder;
use crewtap::relay::First;
use crewtap::runs::Run;
use crewtap::session::{Ground, Holding, Session};
use crewtap_core::bodies::Classified;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::origin::Origin;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::{Mode, Process};
use crewtap_core::target::{Name, Target};
use crewtap_tests::host::Host;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Where it stands.
pub struct Site {
    /// Where clients connect to.
    pub port: u16,
    /// Where its target listens, on loopback.
    pub server: u16,
    /// What is spoken; its driver has the same name.
    pub protocol: &'static str,
    pub mode: Mode,
    pub name: Option<Name>,
    pub catalog: Catalog,
    pub holding: Holding,
}

/// Serves until it is dropped.
pub struct House {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl House {
    /// Serves in the host's namespace.
    pub fn open(host: &Host, site: Site, judge: Arc<dyn Judge>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let directory = host.data_dir();
        let thread = host.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let journal = Journal::open(&directory, &Options::default(), None).unwrap();
                let listener = TcpListener::bind(("127.0.0.1", site.port)).await.unwrap();
                let floor = Floor::new(&journal, site, judge);
                ready.send(()).unwrap();
                tokio::select! {
                    () = floor.serve(listener) => {}
                    _ = stopped => {}
                }
                drop(floor);
                journal.close().unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Ends, and tells the recorded exchanges in the order of their sessions and numbers.
    pub fn exchanges(mut self, host: &Host) -> Vec<Value> {
        self.end();
        let reindexed = host.crewtap(&["reindex"]).output().unwrap();
        assert!(reindexed.status.success(), "{}", crewtap_tests::host::text(&reindexed));
        host.verify();
        let run = host.last_run();
        let mut rows = host.json(&["show", run["id"].as_str().unwrap(), "--all"]);
        rows.retain(|row| row["table"] == "exchanges");
        rows.sort_by_key(|row| (row["session"].to_string(), row["n"].as_i64()));
        rows
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.end();
    }
}

/// What all its sessions share.
struct Floor {
    run: Arc<Run>,
    ground: Arc<Ground>,
    protocol: &'static str,
    target: Target,
}

impl Floor {
    fn new(journal: &Journal, site: Site, judge: Arc<dyn Judge>) -> Rc<Self> {
        let netns = NetworkNamespace::current().unwrap();
        // Its listeners are not served: the ports only say what must not be dialled.
        let ports = Listeners::bind(&netns).unwrap().ports();
        let namespace = Arc::new(Namespace::new(netns, ports).unwrap());
        let recorder = Recorder::new(journal.clone());
        let id = RunId(Ulid::generate());
        let run = Arc::new(Run::new(id, 1, Identity::unknown(), site.mode, namespace, recorder));
        let ground = Arc::new(Ground {
            ssh: None,
            tunnels: None,
            gate: Gate::of(judge),
            key: journal.store_key(),
            catalog: Arc::new(site.catalog),
            masks: Arc::default(),
            plans: Arc::default(),
            waits_for_disk: false,
            zone: Zone::default(),
            holding: site.holding,
        });
        let target = Target { address: ([127, 0, 0, 1], site.server).into(), name: site.name };
        Rc::new(Self { run, ground, protocol: site.protocol, target })
    }

    async fn serve(self: &Rc<Self>, listener: TcpListener) {
        loop {
            let (client, peer) = listener.accept().await.unwrap();
            let floor = self.clone();
            tokio::task::spawn_local(async move {
                let origin = Origin {
                    destination: floor.target.address,
                    bound: None,
                    cgroup: 1,
                    pid: 1,
                    tid: 1,
                    uid: 0,
                    gid: 0,
                    cookie: 0,
                    mono_ns: 0,
                    program_ns: 0,
                    comm: "client".into(),
                };
                let ground = floor.ground.clone();
                let session = Session::open(ground, floor.run.clone(), origin, peer, Process::default()).unwrap();
                let classified = Classified {
                    protocol: floor.protocol.into(),
                    driver: floor.protocol.into(),
                    target: floor.target.clone(),
                    sni: None,
                    alpn: Vec::new(),
                };
                session.record(classified.clone()).unwrap();
                let permit = session.ask_connect(&classified).await.unwrap();
                let target = session.dial(&permit).await.unwrap();
                let (client, target) = (Leg::new(client), Leg::new(target));
                let first = First::default();
                let legs = Legs { client, target, first, classified, tls: None, permit };
                let end = (proto::driver(floor.protocol).serve)(&session, legs).await;
                session.close(end.outcome, end.error);
            });
        }
    }
}
