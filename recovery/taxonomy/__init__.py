"""The error taxonomy: which verdicts there are, and what earns them. Pure data; judging is ``recovery.classify``.

``network``, ``origin`` and ``machine`` hold the verdicts by who is to blame, one constant for each row of the
taxonomy. ``exceptions`` says which exception earns which (types, errno, EAI, TLS, SQLite codes) and ``statuses``
which HTTP status does. A program that recognises more than they can (a chunk whose digest differs, a page in place of
a file) returns one of the constants from its own rule, or carries it as ``exc.recovery_hint``.

Every message says in plain words what happened, who is to blame (the server or the way to it, this computer, the
data) and what to do. It is shown before and after giving up, so it promises nothing about retries.
"""
