"""From amperes to bits: bias codes, weight masks, places, tags."""
