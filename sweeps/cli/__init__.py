"""`mergenet sweep`, and the files that start it on a cluster."""
