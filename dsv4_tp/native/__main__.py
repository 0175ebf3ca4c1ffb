"""`python -m dsv4_tp.native` compiles the yield shim; `make setup` calls it."""

from dsv4_tp.native import build_shim

if __name__ == "__main__":
    build_shim()
