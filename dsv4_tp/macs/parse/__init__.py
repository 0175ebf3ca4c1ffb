"""What macOS's own tools print, as frozen data. Pure: text in, data out, ValueError if it is other.

The formats are those of the tools as others published them (`tests/macs/fixtures/README.md`).
"""
