"""Generated from protos/dsv4_tp/v1 by `make protos`; never edited."""
