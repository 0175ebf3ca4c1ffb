"""How the bundled demo model is made: its text, its training, its files, its figures."""
