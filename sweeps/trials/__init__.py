"""What a trial is: its job, its record on disk, its objectives and result, and the sweep folder."""
