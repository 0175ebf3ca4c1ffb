"""The cluster over HTTP: OpenAI's API and health, in the coordinator's process and event loop.

    app.py          paths
    completions.py  what /v1/completions is asked, checked; what it answers
    replies.py      an answer on its way, and a client that leaves before it is there
    failures.py     our errors as OpenAI's, with their statuses: the one table
    door.py         a socket
    server.py       uvicorn on it

It knows no rank and no queue: texts come from `coordinator.texts`, as those of gRPC do.
"""
