"""The command `tripartite`, which is the book's: it works in a checkout, and says so elsewhere."""

import sys


def main() -> None:
    """Hand over to the book's command line; exit with 2 where there is no book, or no tools for it."""
    try:
        from companion.cli import main as of_the_book
    except ModuleNotFoundError as error:
        if error.name == "companion":
            reason = "the command belongs to the book; what is installed here is its module alone"
        else:
            reason = f"the book's tools are not installed here ({error.name} is missing)"
        print(f"tripartite: {reason}. In a checkout of the book: make setup", file=sys.stderr)
        sys.exit(2)
    of_the_book()


if __name__ == "__main__":
    main()
