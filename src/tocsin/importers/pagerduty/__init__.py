"""PagerDuty: read by its REST API v2 (https://developer.pagerduty.com/api-reference/), and translated."""
