"""What a person or a machine reads of a result: `document` is the JSON; `html` and `console` show it; `explain` shows one row."""
