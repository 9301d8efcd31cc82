"""Who is on call: board, timeline, overrides, swaps and calendar feeds."""
