"""dsv4-tp: DeepSeek-V4 over several Macs as one machine."""

__version__ = "0.1.0"
