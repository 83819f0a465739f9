"""`python -m runners.view`."""

from runners.view import main

if __name__ == "__main__":
    main()
