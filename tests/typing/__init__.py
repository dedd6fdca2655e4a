"""What type checkers must see of the public surface; mypy reads it, nobody runs it."""
