"""From rows on disk to padded batches of speech, text and units."""
