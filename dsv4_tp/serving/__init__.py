"""The cluster over HTTP, in the coordinator's process: OpenAI's and Anthropic's APIs, and health.

    app.py          the paths, a row each
    paths.py        a row becomes a route, and a part of /openapi.json
    shapes.py       what answers look like, for /openapi.json
    desk.py         what a body asks for, on its way to an answer
    fields.py       what all requests have in common, and how a fault in one is named
    schemas.py      JSON schemas in a request, checked
    completions.py  what /v1/completions is asked, checked; what it answers
    chat.py         what /v1/chat/completions is asked, checked
    turns.py        its messages and tools, in our own words
    spoken.py       what it answers: thinking, text and calls apart
    choices.py      several answers to one request
    responses/      the same of OpenAI's Responses
    messages/       the same of Anthropic's Messages
    said.py         an answer taken apart, in nobody's words; parts.py: one after the other
    replies.py      an answer on its way, and a client that leaves before it is there
    probes.py       health and metrics
    metrics/        what Prometheus is told
    records.py      an id and a line in the log for each request
    failures.py     our errors in an API's words, with their statuses: the one table
    entrance.py     who is let in
    keys.py         a file of API keys
    door.py         a socket, and the keys to it
    server.py       uvicorn on it
    connection.py   a client that neither sends nor reads is not waited for

It knows no rank and no queue: texts come from `coordinator.texts`, as those of gRPC do.
"""
