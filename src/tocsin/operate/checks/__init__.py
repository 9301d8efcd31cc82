"""The checks of `tocsin doctor`, one module per area."""
