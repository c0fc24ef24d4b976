"""What must survive: the journal and the shelf, in SQLite through APSW, one writer."""
