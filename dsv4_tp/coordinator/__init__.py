"""The coordinator: one per cluster. It numbers commands, keeps the epoch, serves clients.

It imports no MLX and starts no process: agents are given to it, and it ends them by their own
service.
"""
