#!/usr/bin/env bash
# Sweep @{name} as a job of a Ray cluster that runs already. Run it again after a failure: the sweep goes on.
#
# The jobs API runs anybody's code, so it must ask for a token and listen on localhost only. Reach it through a tunnel:
#   ssh -N -L 8265:127.0.0.1:8265 HEAD
# The token is read from ~/.ray/auth_token (mode 600) or from RAY_AUTH_TOKEN; it does not belong into this file.
set -euo pipefail
export RAY_AUTH_MODE=token
export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
ray job submit -- bash -c '@{command}'
