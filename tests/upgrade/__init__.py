"""What upgrades are tested with: a next version of Tocsin that exists only here, and a backup of each release."""
