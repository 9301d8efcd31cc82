"""Request handling shared by all views: middleware, authorization, error responses and static files."""
