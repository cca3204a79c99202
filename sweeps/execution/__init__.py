"""On Ray: the queue of jobs, the worker pool, the worker, and what Tune sees of a trial."""
