"""What a context costs: bytes held, bytes touched, time, and memory beside it."""
