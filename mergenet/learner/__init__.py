"""A network while it trains: its data, optimizer and random streams, on one process or several."""
