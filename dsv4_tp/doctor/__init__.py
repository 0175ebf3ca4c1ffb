"""What keeps a cluster from running: an ordered ladder of checks, each with evidence and remedy.

Evidence first: `gather` asks every host, by ssh and in the interpreter that its ranks would use,
and changes nothing there. What it means is decided without a host in sight: `checks` judge, what
macOS's tools print by `macs`, and `ladder` orders them and skips what rests on something that has
failed.
"""
