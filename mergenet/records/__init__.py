"""What a run leaves on disk: configuration, epochs, checkpoints, provenance."""
