"""`python -m chatbot` is the `chatbot` command."""

from chatbot.cli import entry_point

if __name__ == "__main__":
    entry_point()
