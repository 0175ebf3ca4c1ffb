"""From a ClusterConfig to a running cluster and back to nothing.

It starts an agent on each host (ssh, or a plain process on this one), refuses hosts that are not
fit, and runs the coordinator in its own process. Or it sends the hosts their weights (`push`). What
it started, it stops.

For the command line:

    launch(config, spec, catalog, job=job, tell=tell)

starts the cluster, awaits `job("127.0.0.1:PORT")` beside it (no job: serves until somebody calls
Down), stops everything and returns what the job returned. `tell(line)` is given one line for each
thing worth showing a person, such as "ready: epoch 1, 2 ranks, 0.3 s". `on_loaded(done, total)` is
told how many bytes the ranks have loaded; without it there are lines for that, too. SIGINT and
SIGTERM drain, a second one kills; both end in KeyboardInterrupt when nothing runs any more. A lost
rank raises RankFailure, an unfit host PreflightError, a model that the ranks refuse InputError.
"""

from dsv4_tp.launcher.launch import launch

__all__ = ["launch"]
