"""Commands about who may do what: users, API tokens, provisioning."""
