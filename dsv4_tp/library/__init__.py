"""What a program uses to generate texts: a model in its own process, or a cluster it launches.

`dsv4_tp` itself offers the names of both modules; one of them imports MLX, so nothing is here.
"""
