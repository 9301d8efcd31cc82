"""The provider kinds: one module or folder for each vendor or protocol."""
