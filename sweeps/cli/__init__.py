"""`mergenet sweep`, and the files with which it starts on a cluster."""
