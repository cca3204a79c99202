"""What a run leaves on disk: configuration, epochs, checkpoints, provenance; and whether Python finds our packages."""
