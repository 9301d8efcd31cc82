"""The connector for HaloITSM."""
