"""Whether a configuration, trained again, gives the metrics that its run recorded."""
