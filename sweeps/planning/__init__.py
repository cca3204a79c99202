"""What is decided and estimated before a sweep runs."""
