"""The alert list, alert details, the signed link and manual alerts."""
