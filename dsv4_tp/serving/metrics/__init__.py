"""What Prometheus is told: pure functions from what is known of a cluster to families of samples.

    look.py      all that they are made of, at one moment
    own.py       dsv4tp_...: all there is
    vllm.py      vllm:...: the same numbers, where vLLM has a name for them
    families.py  how a family is made
    page.py      the text, in the format that is asked for

Labels are ranks, hosts and words of our own: no client can add one.
"""
