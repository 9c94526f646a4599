"""`python -m rnnc`: the command line."""

from rnnc.cli import main

if __name__ == "__main__":
    main()
