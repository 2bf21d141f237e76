//! Every limit of what passes through the product: its unit and its why. Intervals and sizes that only one module
//! knows of stand at its top.
//!
//! A limit that a user may change is a default here and a key in `crewtap.toml`.

use std::time::Duration;

/// Bytes read from one side of a relayed connection at once, and so the largest payload of a `Chunk`.
/// 64 KiB is where the throughput of loopback TCP stops to grow; each thread that relays keeps one, sessions none of their own.
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that are peeked at to tell the protocol; a `ClientHello` with post-quantum shares fits twice.
pub const PEEK_BYTES_MAX: usize = 16 * 1024;

/// Redacted values of one stream whose length and digest wait to be journalled; more are only counted.
pub const REDACTED_VALUES_MAX: usize = 256;

/// Largest HTTP head or trailer section, in bytes. Servers take 8 to 64 KiB; a proxy must take what its target would.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Field lines of one HTTP head or trailer section.
pub const HTTP_HEADERS_MAX: usize = 256;

/// Longest chunk-size line with its extensions, in bytes. Extensions are next to never used.
pub const HTTP_CHUNK_LINE_BYTES_MAX: usize = 4096;

/// Largest message of a target while crewtap logs in to it, in bytes: a SCRAM message has some hundred, an error some thousand.
pub const LOGIN_MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Largest message of either side before a client is let in, in bytes: servers take tokens of 65,535.
pub const LOGIN_TOKEN_BYTES_MAX: usize = 128 * 1024;

/// Messages that a target may send before it has let crewtap in: SCRAM takes four, notices come on top.
pub const LOGIN_MESSAGES_MAX: usize = 32;

/// How long a log-in may take; PostgreSQL's own `authentication_timeout` is 60 s.
pub const LOGIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Largest secret, in bytes: a password or token; a file with more is the wrong one.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Requests of one connection that wait for their answers; more are not read until one was answered. Few clients send
/// more than one ahead.
pub const HTTP_PIPELINE_MAX: usize = 64;

/// Largest message of PostgreSQL that is judged or told whole, in bytes. Statements of 100 KiB are rare; what is larger
/// passes in pieces and counts as not understood.
pub const POSTGRES_JUDGED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How much of what one side says is read while its message waits for a decision. Its end is seen behind it only: what is
/// not read keeps the kernel from telling.
pub const HELD_READ_BYTES: usize = 1024 * 1024;

/// How often it is looked whether both sides of a held message are still there.
pub const HELD_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Largest body of an HTTP request that waits for a human, in bytes on the wire, unless configured: far above what a person
/// reads, and enough for a document that goes to a model.
pub const APPROVAL_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most that can be configured for it, in bytes: each request that waits holds so much memory.
pub const APPROVAL_BODY_BYTES_LIMIT: usize = 256 * 1024 * 1024;

/// Content of a refused HTTP request that is read and dropped so that its connection can go on, in bytes; behind a larger one
/// the connection ends.
pub const HTTP_DROPPED_BYTES_MAX: u64 = 1024 * 1024;

/// Largest row and largest piece of COPY data that is told whole, in bytes: half a burst, so that what is kept until the rest
/// of it comes stays small, and 1 KiB, because base backups come in pieces of 32 KiB and a header.
pub const POSTGRES_ROW_BYTES_MAX: usize = 33 * 1024;

/// Messages of one PostgreSQL connection that wait for their answers; more are not read until one was answered. A server
/// that is not asked to flush keeps back 8 KiB of answers, which have 5 bytes at least: 1639 of them. Below that, both
/// sides would wait for ever.
pub const POSTGRES_PIPELINE_MAX: usize = 4096;

/// Names of statements, and as many of portals, that one PostgreSQL connection is known by; asyncpg keeps 100, the JDBC
/// driver 256. The text of another is unknown.
pub const POSTGRES_NAMES_MAX: usize = 4096;

/// Columns of a result whose types are told with its rows; the server's own limit is 1,664.
pub const POSTGRES_COLUMNS_MAX: usize = 2048;

/// Prepared statements of one PostgreSQL connection whose facts are kept; others are read again at each Bind.
pub const POSTGRES_STATEMENTS_CACHED_MAX: usize = 512;

/// Bytes of the texts of those.
pub const POSTGRES_FACTS_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of a statement that is a fact, in bytes; a longer one is `UNPARSED` to a policy that looks at it.
pub const POSTGRES_TEXT_FACT_MAX: usize = 64 * 1024;

/// Bytes of texts and descriptions that are kept for them; the text of a statement beyond it is unknown.
pub const POSTGRES_NAMES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest first packet of a PostgreSQL client, in bytes, without its length: the server's own limit.
pub const POSTGRES_STARTUP_BYTES_MAX: usize = 10_000;

/// Bytes that the decoding of one HTTP body for search and views may give: a zip bomb stops there.
pub const DECODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest window of a zstd-coded HTTP body, in bytes: what RFC 9659 lets senders ask for.
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Answers of one DNS message that are kept; a message of 64 KiB could name 5,000 addresses.
pub const DNS_ANSWERS_MAX: usize = 256;

/// Longest text of one DNS answer, in bytes: an analyst reads a line.
pub const DNS_ANSWER_TEXT_MAX: usize = 512;

/// How long the first bytes of a client are waited for before the server is taken to speak first.
/// A client that speaks first does so within microseconds of its connect on the same host.
pub const PEEK_WAIT: Duration = Duration::from_millis(150);

/// How long the rest of a `ClientHello` that has begun is waited for.
pub const HELLO_WAIT: Duration = Duration::from_secs(5);

/// How long a target may take to answer a connect; what Linux itself gives with `tcp_syn_retries` = 6.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(127);

/// Sessions served at the same time by one agent; each costs two sockets and about 150 KiB.
pub const SESSIONS_MAX: usize = 8192;

/// Sessions of one run served at the same time: no run takes all places.
pub const SESSIONS_PER_RUN_MAX: u64 = SESSIONS_MAX as u64 / 2;

/// Largest CBOR event of a journal record, in bytes: facts are for judging, bytes belong into the payload.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Largest payload of a journal record, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Size of a journal segment, in bytes: 64 MiB are sealed in under a second and bound what a torn disk can lose.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Kept free at the end of a segment so that sessions can still be closed on record when the disk is full.
pub const SEGMENT_RESERVE_BYTES: u64 = 256 * 1024;

/// Smallest segment, in bytes: below it, headers and reserves would weigh more than records.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest share of its file system that one segment takes, as a divisor: the active segment, its spare and
/// the sealing of a third must leave most of a small disk to records.
pub const SEGMENT_DISK_SHARE: u64 = 16;

/// Share of a small segment that is its reserve, as a divisor; `SEGMENT_RESERVE_BYTES` bounds it.
pub const SEGMENT_RESERVE_SHARE: u64 = 4;

/// Plain bytes of one compressed part of a sealed segment: what is unpacked to read one record of it.
pub const SEAL_PART_BYTES: usize = 1024 * 1024;

/// Compressed parts of one segment: any two neighbours hold more than `SEAL_PART_BYTES`, so this is far above a segment.
pub const SEAL_PARTS_MAX: usize = 4096;

/// Level of zstd's compression: 3 packs 6 % better than 1 and costs half as much again, on time that nobody waits for.
pub const SEAL_LEVEL: i32 = 3;

/// Bytes of a sealed segment that are synced at once: more would hold up the sync of a checkpoint, or the agent's end.
pub const SEAL_SYNC_BYTES: u64 = 4 * 1024 * 1024;

/// Pause after a segment could not be sealed (no room, as a rule) before it is tried again.
pub const SEAL_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// How often a segment's leaves are compared with a new checkpoint where the follower has just replaced a tile.
pub const SEAL_LOOKS: usize = 8;

/// Records that the follower takes at once, in bytes: bounds its memory and what a sink gets in one call.
pub const FOLLOW_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Pause after the follower met an error (disk full, a failing sink) before it tries again.
pub const FOLLOW_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a journal file that are read at once, where it is read through.
pub const JOURNAL_READ_BYTES: usize = 256 * 1024;

/// Bytes of a journal file that are read first where one looks for what is new: some dozens of records.
pub const JOURNAL_READ_BYTES_MIN: usize = 16 * 1024;

/// Slices of one `pwritev`; Linux takes 1024 at most (`IOV_MAX`).
pub const WRITE_SLICES_MAX: usize = 1024;

/// Findings that a verification keeps; beyond it they are counted. A changed tile names at most 256 records.
pub const FINDINGS_MAX: usize = 4096;

/// How often the follower looks for new records while there is activity. Nobody waits for it: who does, wakes it.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(10);

/// How long the follower rests at most when nothing happens; the price of waking nobody on append.
pub const FOLLOW_IDLE_INTERVAL: Duration = Duration::from_millis(50);

/// Events that the follower takes at once, and so what the index gets in one transaction: each writes every page that it touched,
/// and a piece of the full-text index that is merged later.
pub const FOLLOW_BATCH_EVENTS: usize = 4096;

/// Events that are read for the index at once where their sizes are not known beforehand.
pub const INDEX_BATCH_EVENTS: usize = 256;

/// Rows of runs, sessions and exchanges that the index's writer holds beyond a batch, of each: about 1 KiB apiece.
pub const ROWS_HELD_MAX: usize = 8192;

/// Records a second from which on the index waits for a quieter moment: traffic goes first.
pub const INDEX_DEFERRED_AT: u64 = 2_000;

/// How far it may fall behind so, in records: less than a second's work, which the end of a run may have to wait for.
pub const INDEX_BEHIND_MAX: u64 = 64 * 1024;

/// How long an event waits for others before it is put into the index, unless somebody waits for it.
pub const INDEX_LINGER: Duration = Duration::from_millis(100);

/// A checkpoint is signed at least this often while there is activity.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// How often the agent renews its heartbeat; the kernel side refuses after five of them (`HEARTBEAT_STALE_NS` of its ABI).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of one process that are kept, in bytes; `execve` allows 2 MiB, an analyst reads a page.
pub const ARGV_BYTES_MAX: usize = 32 * 1024;

/// Parents of a process that are kept, nearest first.
pub const ANCESTORS_MAX: usize = 16;

/// Names kept per run for naming addresses; the oldest goes first.
pub const NAMES_MAX: usize = 16 * 1024;

/// Questions waiting for their resolver at one time, per DNS socket of the relay.
pub const DNS_PENDING_MAX: usize = 1024;

/// How long the DNS relay waits for a resolver; glibc asks again after 5 s.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest control message, in bytes.
pub const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a payload that a human is shown before "… N more".
pub const SHOWN_BYTES_MAX: usize = 4096;

/// Lines of a payload that a human is shown before "… N more".
pub const SHOWN_LINES_MAX: usize = 100;

/// Longest time that sessions may outlive the last process of their run while they still move: a slow target gets what was
/// sent to it, but cannot keep a run open for ever.
pub const DRAIN_MAX: Duration = Duration::from_mins(10);

/// How long a session in which nothing moves is waited for when its run, or the agent, has ended.
pub const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// Threads that read command lines; each process that never lets itself be read holds one up until it ends.
pub const ARGUMENT_READERS: usize = 8;

/// Command lines that wait for such a thread; more are not read.
pub const ARGUMENT_READS_WAITING_MAX: usize = 64;

/// How long a command line may take to be read, which is a matter of microseconds: then the record says that it was not
/// readable. A connection waits so long at most, and so do the reports of the kernel side.
pub const ARGUMENTS_WAIT: Duration = Duration::from_millis(500);

/// Programs whose facts are kept read.
pub const PROCESSES_CACHED_MAX: usize = 1024;

/// Control connections served at one time; a run holds one from its start to its end.
pub const CONTROL_CLIENTS_MAX: usize = 512;

/// How long a control request may take before the client gives up on the agent.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to read why it was refused, before its connection is reset.
pub const FAREWELL_WAIT: Duration = Duration::from_secs(5);

/// How long the end of a `run` waits for the journal and the index to catch up before it says "so far".
pub const SUMMARY_WAIT: Duration = Duration::from_secs(5);

/// How long `run` waits for an agent that somebody else is starting.
pub const AGENT_START_WAIT: Duration = Duration::from_secs(15);

/// Bytes of one payload that can be found by their text; a chunk of the relay whole.
pub const SEARCHED_PAYLOAD_BYTES: usize = RELAY_BUFFER_BYTES;

/// Bytes of one stream that may be undecided under masks before they are decided as they stand: far above any value.
pub const MASK_STREAM_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one body that are decoded for masking; of what is beyond, length and digest are on record.
pub const MASK_DECODED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest text of a fact that a captured process writes freely (a URL, a media type), in bytes.
pub const FACT_TEXT_MAX: usize = 8 * 1024;

/// Bytes of one side of a session that can be found by their text: full-text rows cost eight times a journal record.
pub const SEARCHED_STREAM_BYTES: u64 = 1024 * 1024;

/// After so long a store that another agent holds, without serving, is tried again: that one may be ending.
pub const AGENT_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How often `run` asks again when an agent that was just ending has taken its request with it.
pub const AGENT_ATTEMPTS_MAX: usize = 3;

/// Names of one certificate that are kept; the largest in the wild hold a few hundred, of which no client needs but one.
pub const CERTIFICATE_NAMES_MAX: usize = 128;

/// Leaves kept minted; each weighs about 2 KiB, and a new one costs under 100 µs.
pub const LEAVES_CACHED_MAX: usize = 4096;

/// Programs and names that are remembered to have rejected a leaf.
pub const REJECTIONS_MAX: usize = 1024;

/// How long one side of a TLS handshake may take; OpenSSL clients wait for ever, common HTTP clients 5 to 60 s.
pub const HANDSHAKE_WAIT: Duration = Duration::from_mins(1);

/// Files of root certificates that are kept read; a bundle of 150 roots weighs about 200 KiB.
pub const ROOT_FILES_CACHED_MAX: usize = 32;

/// Largest file of root certificates, in bytes; a distribution's bundle has 250 KiB.
pub const ROOT_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Questions that wait for an approver at one time; more are denied. Nobody answers hundreds.
pub const APPROVALS_PENDING_MAX: usize = 256;

/// Questions of one run that wait at one time, so that one run cannot take the places of all others.
pub const APPROVALS_PER_RUN_MAX: usize = 64;

/// Bytes of all questions that wait: four of the largest kind.
pub const APPROVALS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Answers that are remembered for a retry, and approvals that hold for a session; the oldest goes, and is asked again.
pub const APPROVALS_REMEMBERED_MAX: usize = 4096;

/// Longest reason of an answer or an override, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of a question's content that are shown at once, so that they fit into a control message however they are escaped.
pub const APPROVAL_PAGE_BYTES: usize = 64 * 1024;

/// Overrides in force at one time.
pub const OVERRIDES_MAX: usize = 64;

/// Bytes of a field that may wait for what comes next, because they could belong to a value that is masked: far more than a
/// card or a key has, and what a private key is cut into.
pub const MASK_HELD_BYTES_MAX: usize = 4096;

/// What an SSH side may say in clear before its keys are exchanged, in bytes: lines of a greeting, a version, an offer. OpenSSH's
/// has 1.5 KiB.
pub const SSH_OFFER_BYTES_MAX: usize = 64 * 1024;

/// Channels of one SSH connection; OpenSSH's server opens ten sessions.
pub const SSH_CHANNELS_MAX: usize = 256;

/// What one side of an SSH connection may have said that the other has not taken, in bytes: two windows of OpenSSH, so that
/// nobody waits for us.
pub const SSH_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The same while there is something for that side, too: more than a connection's buffers hold in front of what would let both
/// sides go on.
pub const SSH_QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Window of an SSH channel, in bytes: as OpenSSH's.
pub const SSH_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Variables that one SSH channel may set, in bytes, with their names and what is shown of them.
pub const SSH_VARIABLES_BYTES_MAX: usize = 64 * 1024;

/// Ports at which one SSH connection's target may listen for its client.
pub const SSH_LISTENS_MAX: usize = 256;

/// Longest name of a user of SSH, in bytes: Linux's own have 32.
pub const SSH_USER_BYTES_MAX: usize = 1024;

/// What of one SSH channel is put on record and forwarded at once, in bytes.
pub const SSH_BURST_BYTES: usize = 256 * 1024;

/// Longest SFTP packet, in bytes; OpenSSH's `SFTP_MAX_MSG_LENGTH` is 256 KiB.
pub const SFTP_PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Files and directories that one SFTP channel has open, and requests that wait for their answer.
pub const SFTP_OPEN_MAX: usize = 4096;

/// Content of one file that is recorded where nothing else is configured (`ssh.content_max`), in bytes.
pub const SFTP_CONTENT_BYTES: usize = 1024 * 1024;

/// Largest file of known hosts, in bytes: ten thousand hosts have 2 MiB.
pub const KNOWN_HOSTS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Lines of one file of known hosts that are read. Each hashed one costs half a microsecond at every look.
pub const KNOWN_HOSTS_LINES_MAX: usize = 64 * 1024;

/// Longest line of a file of known hosts, in bytes: a key of RSA 16384 has 2,800.
pub const KNOWN_HOSTS_LINE_BYTES_MAX: usize = 16 * 1024;

/// Faces of the SSH server that are kept made; each weighs about 8 KiB, and a new one costs under a millisecond.
pub const SSH_FACES_CACHED_MAX: usize = 1024;

/// Files of known hosts that are kept read.
pub const KNOWN_HOSTS_CACHED_MAX: usize = 32;

/// How long files of known hosts may take to be read; what a slow file system has not given by then vouches for nobody.
pub const KNOWN_HOSTS_WAIT: Duration = Duration::from_secs(10);

/// Names of one target that its host key is looked up by: what was looked up, what `/etc/hosts` says, the address.
pub const HOST_NAMES_MAX: usize = 16;

/// Bytes of the names of groups that one record of an identity holds: some hundred. Where there are more, all of them are
/// kept once, as the content of the run's start.
pub const GROUPS_RECORDED_BYTES: usize = 16 * 1024;

/// Groups of one identity. Directories with fifty thousand groups exist, persons in more than some thousand hardly.
pub const GROUPS_MAX: usize = 50_000;

/// Longest name of a group, and longest subject, in bytes; subjects have 255 at most (OpenID Connect Core).
pub const CLAIM_BYTES_MAX: usize = 512;

/// Largest answer of an identity provider, in bytes: 10,000 groups by their numbers make half a megabyte, in a token two thirds.
pub const PROVIDER_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long an identity provider may take for one answer.
pub const PROVIDER_WAIT: Duration = Duration::from_secs(8);

/// Logins that have begun and wait for their person, at one time.
pub const LOGINS_PENDING_MAX: usize = 64;

/// Logins that are kept; another one is refused.
pub const LOGINS_MAX: usize = 1024;

/// How long a person may take to log in.
pub const LOGIN_WAIT: Duration = Duration::from_mins(10);

/// Connections through one SSH connection that are sessions of their own; each costs four descriptors.
pub const SSH_TUNNELS_MAX: usize = 64;
