"""What the evidence means: one function for each rung, from a case and a host to verdicts. Pure."""
