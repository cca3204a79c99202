"""Ray's workers, forked from one process of each node that has loaded Ray, torch and our packages already.

client.py    what Ray starts in place of a worker; it has the server of its node fork the worker
server.py    the process that forks, once it has loaded what workers need
start.py     in the driver: whether workers are forked, and what Ray is told
"""
