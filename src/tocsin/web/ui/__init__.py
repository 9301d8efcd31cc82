"""Building blocks of views: forms, pagination, formatting of times and text, edit conflicts."""
