"""mlx-lm's command line with this model in it: python -m dsv4_tp.mlx_lm server --model PATH."""

from mlx_lm.cli import main

from dsv4_tp.mlx_lm import register

if __name__ == "__main__":
    register()
    main()
