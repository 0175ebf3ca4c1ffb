"""What keeps a cluster from running: an ordered ladder of checks, each with evidence and remedy.

Evidence first: `gather` asks every host, by ssh and in the interpreter that its ranks would use,
and changes nothing there. What it means is decided without a host in sight: `parse` and `mac` read
what macOS's tools print, `links` follows the cables, `checks` judge, `ladder` orders them and skips
what rests on something that has failed.
"""
