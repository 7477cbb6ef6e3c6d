"""What a person or a machine reads after a scan: `document` is the JSON, `page` the HTML made from it."""
