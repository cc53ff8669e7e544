"""Talk from elsewhere: a module for each family of formats, each turning a file into records as a stream.

In: files that anybody may have written. Out: rows for `chatbot.imports`, and a report of what was left out and why.
Nothing here knows the store's tables, and nothing keeps more of a file in memory than a batch of its messages.
"""

# In the order of the help. `log` is what `chatbot export --format log` writes, the others are in `formats`.
FORMAT_NAMES = (
    *("jsonl", "log", "telegram", "discord", "whatsapp", "sharegpt", "messages"),
    *("cornell", "opensubtitles", "conv", "chatterbot", "deepqa", "tsv", "csv"),
)
EXPORT_NAMES = ("jsonl", "log", "sharegpt", "tsv", "conv")
