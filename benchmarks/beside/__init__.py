"""This project beside other programs, on the same weights, in turns. See __main__."""
