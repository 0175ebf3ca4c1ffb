"""`python -m dsv4_tp` is the command, so that a process list names what runs."""

from dsv4_tp.cli.main import main

if __name__ == "__main__":
    main()
