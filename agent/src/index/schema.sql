-- The index: what the journal says, in rows. Rebuilt from the journal at any time (`crewtap reindex`).
--
-- Column names are the field names of `--json`. Times: *_ns are nanoseconds since the Unix epoch, *_us durations in
-- microseconds. `leaf` is the number of the journal's record that a row comes from, and the only way to its bytes.
-- Columns whose comment says JSON hold a JSON value. What is unknown is NULL: a run whose first records were deleted
-- by retention still has its row.

CREATE TABLE progress (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    next_leaf INTEGER NOT NULL,               -- leaves below are indexed
    last_wall_ns INTEGER,                     -- stamp of the record next_leaf - 1, bit for bit
    last_mono_ns INTEGER
) STRICT;
INSERT INTO progress VALUES (1, 0, NULL, NULL);

CREATE TABLE runs (
    id            TEXT PRIMARY KEY,
    leaf          INTEGER NOT NULL,           -- first record of the run
    end_leaf      INTEGER,
    name          TEXT,
    started_ns    INTEGER,
    ended_ns      INTEGER,
    duration_us   INTEGER,                    -- by the monotonic clock
    started_mono_ns INTEGER,
    outcome       TEXT,                       -- exited, lost, failed; NULL while it runs
    status        INTEGER,                    -- exit status as a shell reports it
    identity      TEXT,
    identity_name TEXT,
    basis         TEXT,                       -- JSON
    groups        TEXT,                       -- JSON: a list; not all, where there are hundreds
    uid           INTEGER,
    command       TEXT,                       -- argv joined, for reading
    argv          TEXT,                       -- JSON
    cwd           TEXT,
    invoker       TEXT,                       -- JSON
    mode          TEXT,
    cgroup        INTEGER,
    host          TEXT,
    kernel        TEXT,
    version       TEXT,
    boot_id       TEXT,
    processes     INTEGER NOT NULL DEFAULT 0,
    sessions      INTEGER NOT NULL DEFAULT 0,
    exchanges     INTEGER NOT NULL DEFAULT 0,
    refused       INTEGER NOT NULL DEFAULT 0, -- sessions refused and exchanges blocked
    failed        INTEGER NOT NULL DEFAULT 0, -- sessions that ended neither completed nor refused
    bytes_up      INTEGER NOT NULL DEFAULT 0,
    bytes_down    INTEGER NOT NULL DEFAULT 0,
    masked        INTEGER NOT NULL DEFAULT 0,
    names         INTEGER NOT NULL DEFAULT 0, -- questions asked
    accepted      INTEGER NOT NULL DEFAULT 0,
    bypasses      INTEGER NOT NULL DEFAULT 0,
    notes         INTEGER NOT NULL DEFAULT 0,
    unknown       INTEGER NOT NULL DEFAULT 0, -- events of kinds of a later version
    complete      INTEGER                     -- 1: the kernel's count and ours agree; NULL: not yet counted
) STRICT;
CREATE INDEX runs_started ON runs (started_ns);

-- One row per program that a process executed, so a process that executes another program has two.
CREATE TABLE processes (
    leaf        INTEGER PRIMARY KEY,
    run         TEXT,
    at_ns       INTEGER NOT NULL,
    start       TEXT,                         -- fork, exec, found; NULL: only its exit is known
    pid         INTEGER NOT NULL,
    start_ticks INTEGER,
    ppid        INTEGER,
    uid         INTEGER,
    login_uid   INTEGER,
    exe         TEXT,
    filename    TEXT,
    argv        TEXT,                         -- JSON
    cwd         TEXT,
    ancestors   TEXT,                         -- JSON
    ended_ns    INTEGER,
    status      INTEGER,                      -- wait status
    end_leaf    INTEGER
) STRICT;
CREATE INDEX processes_run ON processes (run, pid, leaf);

CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    leaf          INTEGER NOT NULL,           -- first record of the session
    end_leaf      INTEGER,
    run           TEXT,
    started_ns    INTEGER,
    ended_ns      INTEGER,
    first_byte_us INTEGER,
    duration_us   INTEGER,
    identity      TEXT,
    identity_name TEXT,
    target        TEXT,                       -- name:port, or the address
    address       TEXT,                       -- that was dialled
    host          TEXT,
    proof         TEXT,                       -- how the host is known
    protocol      TEXT,
    driver        TEXT,
    sni           TEXT,
    alpn          TEXT,                       -- JSON
    tls           TEXT,                       -- opened: verified, unverified, by_process (only its own roots say so);
                                              -- rejected (by the process), passed; NULL: there was none
    tls_facts     TEXT,                       -- JSON: defects, certificate, what was negotiated, or why it passed
    verdict       TEXT,                       -- allow, ask, deny; overridden: it passed against the verdict
    outcome       TEXT,                       -- NULL while it is open
    error         TEXT,
    exchanges     INTEGER NOT NULL DEFAULT 0,
    bytes_up      INTEGER NOT NULL DEFAULT 0, -- forwarded; while it is open: recorded
    bytes_down    INTEGER NOT NULL DEFAULT 0,
    recorded_up   INTEGER NOT NULL DEFAULT 0, -- payload bytes in the journal
    recorded_down INTEGER NOT NULL DEFAULT 0,
    masked        INTEGER NOT NULL DEFAULT 0,
    pid           INTEGER,
    tid           INTEGER,
    uid           INTEGER,
    comm          TEXT,
    exe           TEXT,
    client        TEXT,
    destination   TEXT,                       -- that the process asked for
    dialled_from  TEXT,                       -- our address of the connection to the target
    process       TEXT,                       -- JSON
    origin        TEXT                        -- JSON
) STRICT;
CREATE INDEX sessions_run ON sessions (run, started_ns);

CREATE TABLE exchanges (
    id            TEXT GENERATED ALWAYS AS (session || '.' || n) VIRTUAL,
    leaf          INTEGER PRIMARY KEY,        -- of the request
    end_leaf      INTEGER,                    -- of the response
    run           TEXT,
    session       TEXT NOT NULL,
    n             INTEGER NOT NULL,
    started_ns    INTEGER,
    started_mono_ns INTEGER,
    first_byte_us INTEGER,
    duration_us   INTEGER,
    identity      TEXT,
    target        TEXT,
    protocol      TEXT,
    verb          TEXT,
    subject       TEXT,
    outcome       TEXT,
    code          TEXT,
    count         INTEGER,
    bytes_up      INTEGER NOT NULL DEFAULT 0,
    bytes_down    INTEGER NOT NULL DEFAULT 0,
    masked        INTEGER NOT NULL DEFAULT 0,
    verdict       TEXT,
    facts         TEXT,                       -- JSON
    request_type  TEXT,                       -- media type of what was sent
    request_coding TEXT,                      -- how its bytes are coded: gzip, br, …
    response_type TEXT,
    response_coding TEXT
) STRICT;
CREATE UNIQUE INDEX exchanges_session ON exchanges (session, n);
CREATE INDEX exchanges_run ON exchanges (run);

CREATE TABLE decisions (
    leaf     INTEGER PRIMARY KEY,
    run      TEXT,
    session  TEXT,
    n        INTEGER,
    at_ns    INTEGER NOT NULL,
    verb     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    effect   TEXT NOT NULL,
    policies TEXT NOT NULL,                   -- JSON
    mode     TEXT NOT NULL,
    facts    TEXT NOT NULL,                   -- JSON
    target   TEXT,                            -- what policy took the target for; NULL: no policy was asked
    overridden TEXT,                          -- id of the override that let it pass against the verdict
    errors   TEXT NOT NULL                    -- JSON: what could not be evaluated, and so was denied
) STRICT;
CREATE INDEX decisions_run ON decisions (run);
CREATE INDEX decisions_session ON decisions (session);

-- Questions to humans. What would have been sent is the payload of their record.
CREATE TABLE approvals (
    id          TEXT PRIMARY KEY,
    leaf        INTEGER NOT NULL,
    end_leaf    INTEGER,
    run         TEXT,
    session     TEXT,
    n           INTEGER,
    asked_ns    INTEGER NOT NULL,
    answered_ns INTEGER,
    expires_ns  INTEGER NOT NULL,
    identity    TEXT NOT NULL,                -- for whom
    identity_name TEXT NOT NULL,
    target      TEXT NOT NULL,                -- what policy takes it for
    verb        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    policies    TEXT NOT NULL,                -- JSON
    terms       TEXT NOT NULL,                -- JSON: who must approve
    digest      TEXT NOT NULL,                -- keyed, over everything in clear
    media_type  TEXT NOT NULL,
    answer      TEXT,                         -- approved, denied, expired, withdrawn, lost; NULL: it waits
    by          TEXT,                         -- who settled it
    by_name     TEXT,
    way         TEXT,                         -- control, api
    reason      TEXT
) STRICT;
CREATE INDEX approvals_run ON approvals (run);
CREATE INDEX approvals_session ON approvals (session);

-- Everything that came after a question: answers of several approvers, uses of a grant, clear values shown.
CREATE TABLE answers (
    leaf     INTEGER PRIMARY KEY,
    approval TEXT NOT NULL,
    run      TEXT,
    session  TEXT,
    n        INTEGER,
    at_ns    INTEGER NOT NULL,
    answer   TEXT NOT NULL,                   -- as in approvals; used: a grant let a retry pass; revealed: clear values were shown
    by       TEXT,
    by_name  TEXT,
    way      TEXT,
    reason   TEXT,
    settled  INTEGER NOT NULL
) STRICT;
CREATE INDEX answers_run ON answers (run);
CREATE INDEX answers_session ON answers (session);

-- Break glass: everything passed to a target for a while.
CREATE TABLE overrides (
    id       TEXT PRIMARY KEY,
    leaf     INTEGER NOT NULL,
    end_leaf INTEGER,
    at_ns    INTEGER NOT NULL,
    until_ns INTEGER NOT NULL,
    ended_ns INTEGER,                         -- NULL: it was not ended before its time
    target   TEXT NOT NULL,                   -- what policy takes it for
    by       TEXT NOT NULL,
    by_name  TEXT NOT NULL,
    reason   TEXT NOT NULL,
    ended_by TEXT
) STRICT;

CREATE TABLE masks (
    leaf    INTEGER PRIMARY KEY,
    run     TEXT,
    session TEXT,
    n       INTEGER,
    at_ns   INTEGER NOT NULL,
    mask    TEXT NOT NULL,
    count   INTEGER NOT NULL,
    "values" TEXT NOT NULL                    -- JSON: scheme, length and keyed digest, never the value
) STRICT;
CREATE INDEX masks_run ON masks (run);
CREATE INDEX masks_session ON masks (session);

CREATE TABLE names (
    leaf      INTEGER PRIMARY KEY,
    run       TEXT,
    at_ns     INTEGER NOT NULL,
    id        INTEGER NOT NULL,               -- transaction id
    transport TEXT NOT NULL,
    resolver  TEXT NOT NULL,
    pid       INTEGER NOT NULL,
    name      TEXT NOT NULL,
    record    TEXT NOT NULL,
    answered  INTEGER NOT NULL,               -- 0: the question, 1: its answer
    code      TEXT,
    answers   TEXT NOT NULL                   -- JSON
) STRICT;
CREATE INDEX names_run ON names (run);

CREATE TABLE accepted (
    leaf  INTEGER PRIMARY KEY,
    run   TEXT,
    at_ns INTEGER NOT NULL,
    peer  TEXT NOT NULL,
    local TEXT NOT NULL,
    pid   INTEGER NOT NULL
) STRICT;
CREATE INDEX accepted_run ON accepted (run);

CREATE TABLE bypasses (
    leaf    INTEGER PRIMARY KEY,
    run     TEXT,
    session TEXT,
    at_ns   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    refused INTEGER NOT NULL,
    address TEXT,
    pid     INTEGER,
    detail  TEXT NOT NULL
) STRICT;
CREATE INDEX bypasses_run ON bypasses (run);

CREATE TABLE notes (
    leaf    INTEGER PRIMARY KEY,
    run     TEXT,
    session TEXT,
    n       INTEGER,
    at_ns   INTEGER NOT NULL,
    code    TEXT NOT NULL,
    text    TEXT NOT NULL
) STRICT;
CREATE INDEX notes_run ON notes (run);
CREATE INDEX notes_session ON notes (session);

CREATE TABLE reconciliations (
    leaf         INTEGER PRIMARY KEY,
    run          TEXT,
    at_ns        INTEGER NOT NULL,
    established  INTEGER NOT NULL,
    sessions     INTEGER NOT NULL,
    refused      INTEGER NOT NULL,
    unattributed INTEGER NOT NULL,
    events_lost  INTEGER NOT NULL,
    bypassed     INTEGER NOT NULL,
    dropped      INTEGER NOT NULL,
    map_full     INTEGER NOT NULL,
    complete     INTEGER NOT NULL
) STRICT;
CREATE INDEX reconciliations_run ON reconciliations (run);

CREATE TABLE recoveries (
    leaf      INTEGER PRIMARY KEY,
    at_ns     INTEGER NOT NULL,
    from_leaf INTEGER NOT NULL,
    to_leaf   INTEGER NOT NULL,
    cut_bytes INTEGER NOT NULL
) STRICT;

-- Events of kinds that this version does not know.
CREATE TABLE unknown_events (
    leaf    INTEGER PRIMARY KEY,
    run     TEXT,
    session TEXT,
    n       INTEGER,
    at_ns   INTEGER NOT NULL,
    kind    TEXT NOT NULL
) STRICT;
CREATE INDEX unknown_events_run ON unknown_events (run);

-- Where each payload lies in the journal, as it is kept: the session by its first record, so that a row is small and goes
-- in quickly.
CREATE TABLE places (
    session_leaf INTEGER NOT NULL,
    side     INTEGER NOT NULL,                -- 0: client, 1: server
    leaf     INTEGER NOT NULL,
    n        INTEGER,
    part     TEXT NOT NULL,                   -- of a message: head, body, trailers, interim; stream outside of one
    "offset" INTEGER NOT NULL,                -- of its first byte in that side's stream, or in that part
    len      INTEGER NOT NULL,
    PRIMARY KEY (session_leaf, side, leaf)
) STRICT, WITHOUT ROWID;

-- Where each payload lies in the journal.
CREATE VIEW payloads AS
    SELECT sessions.id AS session, iif(side, 'server', 'client') AS side, places.leaf AS leaf, n, part, "offset", len
      FROM sessions JOIN places ON places.session_leaf = sessions.leaf;

-- Bodies that arrive coded (gzip, br, …) until they are complete and their words can be read.
CREATE TABLE coded (
    session TEXT NOT NULL,
    n       INTEGER NOT NULL,
    side    TEXT NOT NULL,
    leaf    INTEGER NOT NULL,
    bytes   BLOB NOT NULL,
    PRIMARY KEY (session, n, side, leaf)
) STRICT, WITHOUT ROWID;

-- Exchanges that have no whole answer yet.
CREATE TABLE unfinished (
    session TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (session, n)
) STRICT, WITHOUT ROWID;

-- What a person searches; rowid is the leaf. The words alone: where the text is wanted, it is read from the journal again.
CREATE VIRTUAL TABLE texts USING fts5 (
    text,
    session UNINDEXED,
    n UNINDEXED,
    content = '', contentless_unindexed = 1,
    columnsize = 0,                           -- nothing is ranked by it
    tokenize = 'unicode61 remove_diacritics 2'
);
-- One batch is one piece, and pieces are merged when there are many: both cost more than what is in them.
INSERT INTO texts (texts, rank) VALUES ('hashsize', 16777216);
INSERT INTO texts (texts, rank) VALUES ('automerge', 16);

-- Everything that a search can find, with the columns that it can be found by.
CREATE VIEW findable AS
    SELECT 'run' AS kind, leaf, id AS run, NULL AS session, NULL AS n, started_ns AS at_ns, identity, identity_name,
           NULL AS target, NULL AS protocol, 'run' AS verb, command AS subject, outcome,
           CAST(status AS TEXT) AS code, NULL AS count, bytes_up, bytes_down, duration_us, masked, NULL AS verdict,
           NULL AS pid, NULL AS exe, NULL AS address, NULL AS sni, name, host
      FROM runs
    UNION ALL
    SELECT 'session', leaf, run, id, NULL, started_ns, identity, identity_name, target, protocol, 'connect', target,
           outcome, error, NULL, bytes_up, bytes_down, duration_us, masked, verdict, pid, exe, address, sni, NULL, host
      FROM sessions
    UNION ALL
    SELECT 'exchange', leaf, run, session, n, started_ns, identity, NULL, target, protocol, verb, subject, outcome,
           code, count, bytes_up, bytes_down, duration_us, masked, verdict, NULL, NULL, NULL, NULL, NULL, NULL
      FROM exchanges
    UNION ALL
    SELECT 'process', leaf, run, NULL, NULL, at_ns, 'os:' || uid, NULL, NULL, NULL, start, argv, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, pid, exe, NULL, NULL, NULL, NULL
      FROM processes WHERE start IS NOT NULL
    UNION ALL
    SELECT 'name', leaf, run, NULL, NULL, at_ns, NULL, NULL, resolver, 'dns', 'resolve', name, NULL, code, NULL, NULL,
           NULL, NULL, NULL, NULL, pid, NULL, resolver, NULL, name, name
      FROM names
    UNION ALL
    SELECT 'accepted', leaf, run, NULL, NULL, at_ns, NULL, NULL, local, NULL, 'accept', peer, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, pid, NULL, peer, NULL, NULL, NULL
      FROM accepted
    UNION ALL
    SELECT 'bypass', leaf, run, session, NULL, at_ns, NULL, NULL, address, kind, 'bypass', detail,
           CASE refused WHEN 1 THEN 'refused' ELSE 'passed' END, kind, NULL, NULL, NULL, NULL, NULL, NULL, pid, NULL,
           address, NULL, NULL, NULL
      FROM bypasses
    UNION ALL
    SELECT 'decision', leaf, run, session, n, at_ns, NULL, NULL, target, NULL, verb, subject, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, iif(overridden IS NULL, effect, 'overridden'), NULL, NULL, NULL, NULL, NULL, NULL
      FROM decisions
    UNION ALL
    SELECT 'approval', leaf, run, session, n, asked_ns, identity, identity_name, target, NULL, verb, subject,
           coalesce(answer, 'waits'), by_name, NULL, NULL, NULL, NULL, NULL, 'ask', NULL, NULL, NULL, NULL, NULL, NULL
      FROM approvals
    UNION ALL
    SELECT 'override', leaf, NULL, NULL, NULL, at_ns, by, by_name, target, NULL, 'override', reason, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, 'overridden', NULL, NULL, NULL, NULL, NULL, NULL
      FROM overrides
    UNION ALL
    SELECT 'note', leaf, run, session, n, at_ns, NULL, NULL, NULL, NULL, 'note', text, NULL, code, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
      FROM notes;
