"""`python -m mergenet.cli`: the command line, also where the script is not on the path (torchrun)."""

from mergenet.cli.main import main

if __name__ == "__main__":
    main()
