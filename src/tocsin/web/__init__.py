"""The web interface: Django views, forms and template tags in one package per area."""
