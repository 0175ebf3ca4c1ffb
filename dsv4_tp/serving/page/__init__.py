"""The page at `/`: the cluster as it is now, and a chat with it.

    web/      what the browser loads: no build step, nothing from elsewhere
    files.py  how that is sent
    view.py   all that is shown of a cluster, from what is known of it
    news.py   that, once and as it changes

The chat has nothing of its own here: it calls /v1/chat/completions, as every client does.
"""
