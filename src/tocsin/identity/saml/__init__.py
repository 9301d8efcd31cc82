"""SAML 2.0 as a service provider: metadata, requests, and the checks of responses. Needs the extra `tocsin[saml]`."""
