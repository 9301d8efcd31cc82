"""PagerDuty: read through its REST API v2 (https://developer.pagerduty.com/api-reference/) and converted."""
