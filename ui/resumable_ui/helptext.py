"""What ``resumable --help`` prints. A module of its own, without imports, because help must be there at once. Pure."""

from __future__ import annotations

HELP = """\
usage: resumable COMMAND [OPTIONS]

Downloads that continue where they stopped and are checked before they get their name.

  get URL...        download; the same command again continues, or is done at once
  status [ID]       what is known: running, waiting, failed, finished
  resume [ID]       continue what was interrupted or paused
  retry [ID]        try failed ones again, now
  pause ID          stop a running one and keep what it has
  cancel ID         stop for good
  relink ID URL     give an expired link's download a fresh link
  verify FILE       check a file against what is known of it
  prune             forget what has ended; files stay, and what failed half-way
  serve             a web page that shows and steers them all

  --version, --help; `resumable COMMAND --help` says more about one of them

Results go to stdout, all else to stderr. Exit codes: 0 all done, 1 a fault of ours, 2 wrong use, 3 network or time
(running again helps), 4 the server says no, 5 the data is not what was promised, 6 disk or permission, 7 unfinished
but kept.
Environment: RESUMABLE_STATE, RESUMABLE_RETRIES, RESUMABLE_PROGRESS, RESUMABLE_TOKEN, and proxies as curl
reads them.
"""
