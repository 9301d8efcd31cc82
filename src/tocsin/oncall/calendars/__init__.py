"""Calendar feeds, and imports of external iCal calendars."""
