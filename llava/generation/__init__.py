"""The generation engine inside one worker: Requests in, Completions out."""
