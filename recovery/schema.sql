-- The journal's tables, version 1. Times are seconds since the epoch (REAL, UTC); crc is the CRC-32 of the row's other
-- columns (recovery.rowcrc): a row in which it does not match is treated as absent.

CREATE TABLE operations (
  operation_id      TEXT NOT NULL PRIMARY KEY, -- short and random, or the caller's; people type its beginning
  kind              TEXT NOT NULL,    -- which handler continues it
  key               TEXT NOT NULL,    -- what it is about (a destination path): one live operation for each kind and key
  project           TEXT NOT NULL,    -- retention and statistics go by project
  title             TEXT NOT NULL,    -- what people see; redacted
  state             TEXT NOT NULL,    -- recovery.states.State; changes only along its TRANSITIONS
  history           TEXT NOT NULL,    -- recovery.history.History as JSON: the three meters survive a restart
  max_attempts      INTEGER NOT NULL, -- of its policy, so that others can show "try 2 of 50"
  max_no_progress   INTEGER NOT NULL, -- of its policy: "no progress 1 of 3"
  category          TEXT,             -- of the verdict that led to this state; NULL when nothing is wrong
  code              TEXT,             -- the verdict's stable name
  message           TEXT,             -- the verdict in plain language, for the page after a restart
  condition         TEXT,             -- what a parked operation waits for, so that anybody can look
  user_actions      TEXT NOT NULL,    -- buttons that help, space-separated
  error             TEXT,             -- technical one-liner; redacted, cut
  next_at           REAL,             -- when the next attempt is due: a schedule that survives a restart
  deadline_at       REAL,             -- when the policy's deadline passes
  owner             TEXT,             -- incarnation of the process that holds the lease
  lease_until       REAL,             -- past: the owner is dead or stalled, others may claim
  generation        INTEGER NOT NULL, -- fencing token: every write of an owner carries it, a stale one changes nothing
  progress_done     INTEGER NOT NULL, -- durable units, as last reported; decides whether a death was one without progress
  progress_total    INTEGER,          -- NULL while unknown
  deaths            INTEGER NOT NULL, -- owners lost in a row without progress: a crash loop is stopped after some
  progress_at_death INTEGER NOT NULL, -- progress_done when the last of them was lost
  rev               INTEGER NOT NULL, -- grows with every change in this table: others ask for what is newer than they have
  created_at        REAL NOT NULL,    -- lists show the newest first
  updated_at        REAL NOT NULL,    -- retention forgets what ended longest ago
  args              TEXT NOT NULL,    -- JSON for whoever continues it; redacted
  crc               INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX operations_by_key ON operations (kind, key, state);  -- begin: is there a live one?
CREATE INDEX operations_by_state ON operations (state);           -- sweeper, lists
CREATE INDEX operations_by_rev ON operations (rev);               -- the next rev, and who asks for what is newer

CREATE TABLE attempts (
  operation_id  TEXT NOT NULL,     -- whose
  number        INTEGER NOT NULL,  -- counted over all owners, from 1
  started_at    REAL NOT NULL,     -- with ended_at: how long it took
  ended_at      REAL,              -- NULL: it runs, or its owner died in it
  progress_from INTEGER NOT NULL,  -- where it resumed ...
  progress_to   INTEGER NOT NULL,  -- ... and how far it came: what a retry was worth
  outcome       TEXT NOT NULL,     -- the state it led to
  category      TEXT,              -- what went wrong, for statistics
  error         TEXT,              -- technical one-liner; redacted, cut
  delay_s       REAL,              -- wait decided upon before the next one
  crc           INTEGER NOT NULL,
  PRIMARY KEY (operation_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE commands (
  request_id   TEXT NOT NULL PRIMARY KEY, -- chosen by who asks: the same click delivered twice is one command
  operation_id TEXT NOT NULL,             -- whose owner is meant
  name         TEXT NOT NULL,             -- pause, cancel, retry_now, ...
  args         TEXT NOT NULL,             -- JSON
  posted_at    REAL NOT NULL,             -- the oldest is obeyed first; one nobody takes is forgotten after a day
  taken_at     REAL,                      -- NULL: nobody has seen it; kept for a while after, to recognise repetitions
  crc          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX commands_waiting ON commands (operation_id) WHERE taken_at IS NULL;  -- polled twice a second

CREATE TABLE gates (
  host       TEXT NOT NULL PRIMARY KEY, -- shared by all processes: 500 clients of a dead host must not become a storm
  state      TEXT NOT NULL,             -- the host gate's record as JSON
  updated_at REAL NOT NULL,             -- a gate nobody used for long is forgotten
  crc        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
  operation_id TEXT NOT NULL,  -- whose
  name         TEXT NOT NULL,  -- of a step inside the operation that need not be done again
  data         TEXT NOT NULL,  -- JSON: what it returned (data), which in the order (n), whether it has an undo (undo)
  saved_at     REAL NOT NULL,  -- steps are shown in this order
  crc          INTEGER NOT NULL,
  PRIMARY KEY (operation_id, name)
) STRICT, WITHOUT ROWID;
