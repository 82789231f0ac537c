"""`python -m trionode` is the console script `trionode`."""

from trionode.cli.main import main

if __name__ == "__main__":
    main()
