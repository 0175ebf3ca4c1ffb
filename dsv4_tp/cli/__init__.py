"""The command `dsv4-tp`: words in, words out. It decides nothing that a library could."""
