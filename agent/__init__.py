"""Numbers to words: retrieve known operations, name what a head does, test the name, record it."""
