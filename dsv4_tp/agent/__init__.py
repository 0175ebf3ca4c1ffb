"""The agent: one per host. It inspects the machine and starts, watches and kills its ranks.

It never imports MLX, for whoever judges a stuck rank must not be able to get stuck with it.
"""
