"""SQLite (apsw): journal and secrets."""
