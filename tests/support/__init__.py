"""What tests of several folders share that is neither a fixture nor a double."""
