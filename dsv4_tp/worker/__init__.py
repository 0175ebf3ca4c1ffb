"""The worker: the process of one rank. It loads its part and runs the engine.

Its agent speaks with it over a Unix socket and reads its progress page; nobody else knows it.
"""
