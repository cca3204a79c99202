"""The command line: `mergenet train`, `layers`, `diagnose`, `evaluate`, `export`, `record`, and their output."""
