"""Pages of docs/ that come from the source: all commands, all keys of configurations, pictures of concepts."""
