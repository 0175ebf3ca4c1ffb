"""`dsv4-tp bench`: how fast a running cluster is, and how fast it could be."""
