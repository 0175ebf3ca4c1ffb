"""`dsv4-tp chat`: decided purely what a line means, and a loop and a terminal around it."""
