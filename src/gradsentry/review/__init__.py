"""The local page on which a person decides on the findings and rows of a run: `desk` is what it shows and does, `server` who may."""
