"""The wire: channels, deadlines, who speaks, and messages to and from our own nouns.

It knows gRPC and `core`; it decides nothing and knows no cluster, process or file.
"""
