"""On Ray: the job queue, the worker pool, the worker, and Tune's side of a trial."""
