"""The cluster over HTTP: OpenAI's API and health, in the coordinator's process and event loop.

    app.py          paths
    completions.py  what /v1/completions is asked, checked; what it answers
    replies.py      an answer on its way, and a client that leaves before it is there
    probes.py       health and metrics
    metrics/        what Prometheus is told
    records.py      an id and a line in the log for each request
    failures.py     our errors as OpenAI's, with their statuses: the one table
    entrance.py     who is let in
    keys.py         a file of API keys
    door.py         a socket, and the keys to it
    server.py       uvicorn on it

It knows no rank and no queue: texts come from `coordinator.texts`, as those of gRPC do.
"""
