"""`python -m mergenet`: the command line."""

from mergenet.cli.main import main

if __name__ == "__main__":
    main()
