"""Coverage gaps of on-call schedules, and the weekly e-mail about them."""
