"""Events from providers and responders: delivery receipts, key presses, opt-outs, verification codes and commands."""
