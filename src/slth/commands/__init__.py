"""One module a command: arguments in, tables, JSON and files out; nothing here computes results."""
