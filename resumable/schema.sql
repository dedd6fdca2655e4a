-- The tables of component "downloads". They live in recovery's database beside the journal; a download's operation row
-- (state, attempts, lease) has the same id. `crc` is over all other columns of a row: a row that fails it is treated as absent.

CREATE TABLE downloads (
  download_id    TEXT NOT NULL PRIMARY KEY,  -- the operation's id
  directory      TEXT NOT NULL,              -- absolute; the file is put below it
  filename       TEXT,                       -- NULL until the caller or the first answer has named the file
  named_by       TEXT NOT NULL,              -- 'caller' may overwrite on publishing, 'origin' never does
  request        TEXT NOT NULL,              -- JSON: redacted links, expected digest, options; secrets are kept elsewhere
  representation TEXT,                       -- JSON: the validators the chunks belong to, and which link stated them; NULL before the first answer
  chunk_size     INTEGER,                    -- bytes; fixed for one representation
  crc            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE download_chunks (
  download_id TEXT NOT NULL,
  idx         INTEGER NOT NULL,              -- position in the grid
  length      INTEGER NOT NULL,              -- bytes from the chunk's start that are written; less than the chunk while in progress
  digest      BLOB NOT NULL,                 -- SHA-256 of exactly those bytes
  crc         INTEGER NOT NULL,
  PRIMARY KEY (download_id, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE download_files (
  download_id    TEXT NOT NULL PRIMARY KEY,  -- a finished download: the receipt
  path           TEXT NOT NULL,              -- where it was published
  size           INTEGER NOT NULL,           -- bytes
  mtime_ns       INTEGER,                    -- of the file when it was published; tells an edited file without reading it
  sha256         TEXT,                       -- hex, of the whole file; NULL where nobody stated one
  chunk_size     INTEGER NOT NULL,
  digests        BLOB NOT NULL,              -- SHA-256 of every chunk, 32 bytes each, in order: `resumable verify` names what rotted
  verified_by    TEXT NOT NULL,              -- what proves the content: digest, etag, last-modified, overlap, length
  representation TEXT NOT NULL,              -- JSON: asks the origin later whether the file has changed; and the links it came from
  bytes_received INTEGER NOT NULL,           -- on the wire in the run that finished it
  finished_at    REAL NOT NULL,              -- epoch seconds
  crc            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX download_files_by_path ON download_files (path);

CREATE TABLE download_views (
  download_id TEXT NOT NULL PRIMARY KEY,
  seq         INTEGER NOT NULL,              -- grows with every write in this table: who follows asks for what is newer
  generation  INTEGER NOT NULL,              -- of the operation when this was written: tells what a former owner saw
  written_at  REAL NOT NULL,                 -- epoch seconds: a sign of life of whoever runs it
  view        TEXT NOT NULL,                 -- JSON: resumable.DownloadView, the numbers as its owner has them
  crc         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX download_views_by_seq ON download_views (seq);
